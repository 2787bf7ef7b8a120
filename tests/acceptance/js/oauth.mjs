/** Signing in by another provider in a real browser, with the official client on the app's page. */
import { chromium } from 'playwright-core'
import { report } from './client.mjs'

const ARGUMENTS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync'
]

await report(async ({ home, start, token, executable }) => {
  const browser = await chromium.launch({ executablePath: executable, args: ARGUMENTS })
  const complaints = []
  const tab = async () => {
    const page = await (await browser.newContext()).newPage()
    page.setDefaultTimeout(10_000)
    page.on('pageerror', (error) => complaints.push(error.message))
    page.on('console', (line) => line.type() === 'error' && complaints.push(line.text()))
    return page
  }
  const result = async (page) => {
    await page.locator('#result:not(:empty)').waitFor()
    return page.locator('#result').textContent()
  }
  const found = {}

  const linking = await tab()
  await linking.goto(`${start}#feathers_token=${token}`)
  await linking.waitForURL((url) => url.href.startsWith(home))
  found.linked = await result(linking)

  const ada = await tab()
  await ada.goto(home)
  found.before = await result(ada)
  await ada.locator('a').click()
  await ada.waitForURL((url) => url.href.startsWith(`${home}#`))
  found.after = await result(ada)
  found.hash = await ada.evaluate(() => location.hash)
  await ada.goto('about:blank')
  await ada.goto(home)
  found.reloaded = await result(ada)
  found.cookies = (await ada.context().cookies()).length

  found.complaints = [...complaints]

  // Somebody begins a sign-in, and has another browser end it.
  const attacker = await tab()
  await attacker.route('**/callback', (route) => route.abort())
  await attacker.goto(start)
  await attacker.waitForURL('**/callback?*')
  const victim = await tab()
  await victim.goto(attacker.url())
  await victim.getByText('another browser').waitFor()
  found.victim = await victim.locator('p').textContent()
  await victim.goto(home)
  found.victimAfter = await result(victim)

  const lost = await tab()
  await lost.goto(`${start}&redirect=${encodeURIComponent('https://attacker.example/')}`)
  await lost.getByText('redirect').waitFor()
  found.lost = await lost.locator('p').textContent()

  await browser.close()
  return found
})
