/** Every standard method of a data service, alone and on many records. */
import { join, open, outcome, report } from './client.mjs'

await report(async ({ url, appId, transports }) => {
  const app = open(url, appId, { transports })
  const notes = app.service('notes')
  await join(app, 'alice')

  const found = {}
  found.created = await notes.create({ text: 'one', n: 1 })
  const id = found.created._id
  found.got = await notes.get(id)
  found.patched = await notes.patch(id, { n: 2 })
  found.updated = await notes.update(id, { text: 'uno' })
  found.chosen = await notes.create({ _id: 'my-own-id', text: 'chosen', n: 0 })
  found.chosenAgain = await outcome(notes.create({ _id: 'my-own-id', text: 'chosen', n: 0 }))
  found.many = await notes.create([3, 4, 5, 6].map((n) => ({ text: `note ${n}`, n })))
  found.page = await notes.find({ query: { n: { $gte: 3 }, $sort: { n: -1 }, $limit: 2, $skip: 1, $select: ['n'] } })
  found.either = await notes.find({ query: { $or: [{ n: { $in: [3, 4] } }, { _id: id }], $sort: { n: 1 } } })
  found.count = await notes.find({ query: { $limit: 0 } })
  found.patchedMany = await notes.patch(null, { done: true }, { query: { n: { $gt: 4 } } })
  found.removedMany = await notes.remove(null, { query: { done: true } })
  found.removed = await notes.remove(id)
  found.gone = await outcome(notes.get(id))
  found.left = await notes.find({ query: { $sort: { n: 1 } } })
  found.odd = await notes.create({ text: 'ünï✓ 🐦', list: [1, null, { deep: [true] }], n: -0.5 })
  found.transport = app.socket.io.engine.transport.name
  return found
})
