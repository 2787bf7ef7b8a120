/** The server goes and comes back under a client that is logged in. */
import { join, next, open, outcome, report } from './client.mjs'

await report(async ({ url, appId, transports }) => {
  const alice = open(url, appId, { transports, reconnectionDelayMax: 200 })
  await join(alice, 'alice')
  await alice.service('notes').create({ text: 'before' })
  const found = {}
  const back = new Promise((resolve) => {
    alice.socket.once('disconnect', (reason) => { found.gone = { reason, active: alice.socket.active } })
    alice.socket.once('connect', resolve)
  })
  console.log('ready')
  await back
  found.after = await outcome(alice.service('notes').create({ text: 'after' }))
  found.notes = await outcome(alice.service('notes').find({ query: { $sort: { _id: 1 } } }))
  const event = next(alice.socket, 'notes created')
  await alice.service('notes').create({ text: 'live' })
  found.event = (await event)[0]
  return found
})
