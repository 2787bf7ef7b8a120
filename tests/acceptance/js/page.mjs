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
  context.setDefaultTimeout(10_000)
  const complaints = []
  const tab = async () => {
    const page = await context.newPage()
    page.on('pageerror', (error) => complaints.push(error.message))
    page.on('console', (line) => line.type() === 'error' && complaints.push(line.text()))
    await page.goto('http://localhost:3030/example/')
    return page
  }
  const chat = (page, app) => page.locator(`section[data-app=${app}]`)
  const enter = async (part, name, button, password = PASSWORD) => {
    await part.page().bringToFront()
    await part.getByLabel('Name').fill(name)
    await part.getByLabel('Password').fill(password)
    await part.getByRole('button', { name: button }).click()
  }
  const say = async (part, text) => {
    await part.page().bringToFront()
    await part.getByLabel('Message', { exact: true }).fill(text)
    await part.getByRole('button', { name: 'Send' }).click()
  }
  const hears = (part, text) => part.locator('.text', { hasText: text }).waitFor()
  const texts = (part) => part.locator('.text').allTextContents()
  const alert = async (part) => {
    await part.locator('.error:not(:empty)').waitFor()
    return part.getByRole('alert').textContent()
  }

  const [first, second] = [await tab(), await tab()]
  const [alice, bob] = [chat(first, 'acme'), chat(second, 'acme')]
  const [other, neighbour] = [chat(first, 'globex'), chat(second, 'globex')]
  const found = {}

  await alice.getByText('Online').waitFor()
  await enter(alice, 'alice', 'Log in')
  found.notYet = await alert(alice)
  await enter(alice, 'alice', 'Sign up')
  await alice.locator('.room').waitFor()
  found.account = await alice.locator('.account').textContent()
  await enter(bob, 'bob', 'Sign up')
  await enter(neighbour, 'alice', 'Sign up', 'another password')
  await neighbour.locator('.room').waitFor()
  await enter(other, 'alice', 'Sign up', 'not free any more')
  found.taken = await alert(other)
  await enter(other, 'alice', 'Log in', 'another password')
  await other.locator('.room').waitFor()

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
  await first.screenshot({ path: `${pictures}/desktop.png` })

  await first.bringToFront()
  await first.reload()
  await hears(alice, 'Hello Bob')
  found.reloaded = await texts(alice)
  await first.setViewportSize({ width: 390, height: 844 })
  found.overflow = await first.evaluate(() => document.documentElement.scrollWidth - window.innerWidth)
  await first.emulateMedia({ colorScheme: 'dark' })
  await first.screenshot({ path: `${pictures}/phone.png`, fullPage: true })

  await alice.getByRole('button', { name: 'Log out' }).click()
  await alice.getByRole('button', { name: 'Log in' }).waitFor()
  await say(bob, 'Are you still there?')
  await hears(bob, 'Are you still there?')
  found.afterLogout = await texts(alice)
  found.stillIn = await other.locator('.room').isVisible()
  found.complaints = complaints
  await browser.close()
  return found
})
