/** The example page in a real browser: two tabs talk in one app, and the other app hears nothing of it. */
import { chromium } from 'playwright-core'
import { report } from './client.mjs'

const ARGUMENTS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync'
]
const PASSWORD = 'correct horse'
const MARKUP = '<img src=x onerror="document.title=1"> & <b>bold</b>'

await report(async ({ port, executable, pictures }) => {
  const browser = await chromium.launch({
    executablePath: executable,
    // The page is opened under the address that demo.yaml lists, wherever the server of this test listens.
    args: [...ARGUMENTS, `--host-resolver-rules=MAP localhost:3030 127.0.0.1:${port}`]
  })
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } })
  context.setDefaultTimeout(30_000)
  const complaints = []
  const tab = async () => {
    const page = await context.newPage()
    page.on('pageerror', (error) => complaints.push(error.message))
    page.on('console', (line) => line.type() === 'error' && complaints.push(line.text()))
    await page.goto('http://localhost:3030/example/')
    return page
  }
  const chat = (page, app) => page.locator(`section[data-app=${app}]`)
  const button = (part, name) => part.getByRole('button', { name, exact: true })
  const enter = async (part, name, action, password = PASSWORD) => {
    await part.page().bringToFront()
    await part.getByLabel('Name').fill(name)
    await part.getByLabel('Password').fill(password)
    await button(part, action).click()
  }
  const inside = (part) => part.locator('.room').waitFor()
  const outside = (part) => part.locator('.login').waitFor()
  const say = async (part, text, { privately = false } = {}) => {
    await part.page().bringToFront()
    await part.getByLabel('Message', { exact: true }).fill(text)
    if (privately) await part.getByLabel('Only me').check()
    await button(part, 'Send').click()
    await hears(part, text)
  }
  const message = (part, text) => part.locator('li', { hasText: text })
  const hears = (part, text) => message(part, text).waitFor()
  const texts = (part) => part.locator('.text').allTextContents()
  const alert = async (part) => {
    await part.locator('.error:not(:empty)').waitFor()
    return part.getByRole('alert').textContent()
  }
  const tokens = (page, app) => page.evaluate((key) => {
    const { [key]: access, [`${key}-refresh`]: refresh } = window.sessionStorage
    return { access, refresh }
  }, `roost-${app}`)
  const state = (part, name) => part.locator(`.state[data-state=${name}]`).waitFor()

  const [first, second] = [await tab(), await tab()]
  const [alice, bob] = [chat(first, 'acme'), chat(second, 'acme')]
  const [other, neighbour] = [chat(first, 'globex'), chat(second, 'globex')]
  const found = {}

  // Sign-up and login
  await state(alice, 'online')
  await enter(alice, 'alice', 'Log in')
  found.notYet = await alert(alice)
  await first.screenshot({ path: `${pictures}/door.png` })
  await enter(alice, 'alice', 'Sign up')
  await inside(alice)
  found.account = await alice.locator('.account').textContent()
  await enter(bob, 'bob', 'Sign up')
  await inside(bob)
  await enter(neighbour, 'alice', 'Sign up', 'another password')
  await inside(neighbour)
  await enter(other, 'alice', 'Sign up', 'not free any more')
  found.taken = await alert(other)
  await enter(other, 'alice', 'Log in', 'another password')
  await inside(other)

  // Live, inside one app
  await say(alice, 'Hello Bob')
  await hears(bob, 'Hello Bob')
  await say(bob, 'Hello Alice')
  await hears(alice, 'Hello Alice')
  await say(bob, MARKUP)
  await hears(alice, MARKUP)
  await say(neighbour, 'Only in Globex')
  await hears(other, 'Only in Globex') // its events work; so had it been sent Acme's, they would be here by now
  found.alice = await texts(alice)
  found.bob = await texts(bob)
  found.senders = await alice.locator('li').evaluateAll((items) => items.map((item) => item.querySelector('b').textContent))
  found.times = await alice.locator('time').evaluateAll((times) => times.map((time) => time.dateTime))
  found.globex = [await texts(other), await texts(neighbour)]
  found.title = await first.title()

  // One's own alone until it is made public
  await say(alice, 'A secret', { privately: true })
  await say(alice, 'No secret')
  await hears(bob, 'No secret')
  found.kept = [await texts(alice), await texts(bob)]
  await first.screenshot({ path: `${pictures}/desktop.png` })
  await first.bringToFront()
  await button(message(alice, 'A secret'), 'Make public').click()
  await hears(bob, 'A secret')
  found.shared = await texts(bob)
  found.foreign = await button(message(bob, 'A secret'), 'Make private').count()
  await button(message(alice, 'A secret'), 'Make private').click()
  await message(bob, 'A secret').waitFor({ state: 'detached' })
  found.taken_back = [await texts(alice), await texts(bob)]

  await first.reload()
  await hears(alice, 'Hello Bob')
  found.reloaded = await texts(alice)

  // The server goes, its access tokens with it, and comes back
  const before = [await tokens(first, 'acme'), await tokens(first, 'globex')]
  complaints.length = 0 // a server that is away is complained of
  console.log('ready')
  await Promise.all([alice, bob, other].map((part) => state(part, 'waiting')))
  await first.screenshot({ path: `${pictures}/away.png` })
  await Promise.all([alice, bob, other].map((part) => state(part, 'online')))
  await alice.locator('.send button:enabled').waitFor()
  await say(alice, 'Still me')
  await hears(bob, 'Still me')
  await say(bob, 'Me too')
  await hears(alice, 'Me too')
  found.returned = await texts(alice)
  found.tokens = { before, after: [await tokens(first, 'acme'), await tokens(first, 'globex')] }
  found.noErrors = await alice.locator('.error').textContent()

  await first.setViewportSize({ width: 820, height: 700 })
  await first.screenshot({ path: `${pictures}/tablet.png` })
  await first.setViewportSize({ width: 390, height: 844 })
  found.overflow = await first.evaluate(() => document.documentElement.scrollWidth - window.innerWidth)
  await first.emulateMedia({ colorScheme: 'dark' })
  await first.screenshot({ path: `${pictures}/phone.png`, fullPage: true })

  // Log out everywhere
  const third = await tab()
  const again = chat(third, 'acme')
  await enter(again, 'alice', 'Log in')
  await hears(again, 'Still me')
  await first.bringToFront()
  await button(alice, 'Log out everywhere').click()
  await Promise.all([outside(alice), outside(again)])
  found.everywhere = [await alert(alice), await alert(again)]
  found.left = [await tokens(first, 'acme'), await tokens(third, 'acme')]
  await third.reload()
  await state(again, 'online')
  await again.locator('.login button:enabled').first().waitFor()
  found.gone = await again.locator('.login').isVisible()
  await say(bob, 'Are you still there?')
  found.afterLogout = [await texts(alice), await texts(again)]
  found.stillIn = await other.locator('.room').isVisible()

  // And log out here alone
  await second.bringToFront()
  await button(bob, 'Log out').click()
  await outside(bob)
  found.bobLeft = await texts(bob)
  found.complaints = complaints.filter((line) => !line.includes('ERR_CONNECTION_REFUSED'))
  await browser.close()
  return found
})
