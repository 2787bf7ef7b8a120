/** The example page under an address that its apps have not listed: it says so, and goes on once it is listed. */
import { chromium } from 'playwright-core'
import { report } from './client.mjs'

const ARGUMENTS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync'
]
const APPS = ['acme', 'globex']

await report(async ({ url, executable }) => {
  const browser = await chromium.launch({ executablePath: executable, args: ARGUMENTS })
  const page = await browser.newPage()
  page.setDefaultTimeout(15_000)
  await page.goto(`${url}/example/`)
  const parts = APPS.map((app) => page.locator(`section[data-app=${app}]`))
  const all = (look) => Promise.all(parts.map(look))
  const error = (part) => part.locator('.error').textContent()
  const state = (part) => part.locator('.state').textContent()

  await all((part) => part.locator('.error:not(:empty)').waitFor())
  const found = { refused: await all(error), waiting: await all(state) }
  console.log('ready')
  await all((part) => part.locator('.state[data-state=online]').waitFor())
  await all((part) => part.locator('.login button:enabled').first().waitFor())
  found.afterwards = await all(error)
  await browser.close()
  return found
})
