/** The official adapter suite, run against the declared services of one app. */
import adapterTests from '@feathersjs/adapter-tests'
import feathers from '@feathersjs/client'
import { AdaptedService } from './adapted.mjs'
import { open, openRest, report } from './client.mjs'
import { run } from './suite.mjs'

await report(async ({ url, appId, transport, name, id, skipped }) => {
  console.log = console.error // The suite prints a summary where the report belongs.
  const { service } = transport === 'rest' ? openRest(url, appId) : open(url, appId, { transports: [transport] })
  const people = new AdaptedService(service, name, id)
  // The suite asks this list about each of its tests: so one that a newer suite brings is run.
  const wanted = { includes: (test) => !skipped.includes(test), forEach () {} }
  return run(() => adapterTests(wanted)({ service: () => people }, feathers.errors, name, id))
})
