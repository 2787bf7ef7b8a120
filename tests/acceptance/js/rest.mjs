/** The REST client with `x-app-id`, beside a socket that hears what it does. */
import { join, next, open, openRest, outcome, report } from './client.mjs'

await report(async ({ url, appId }) => {
  const rest = openRest(url, appId)
  const notes = rest.service('notes')
  const found = {}
  found.anonymous = await outcome(notes.find())
  found.public = await outcome(rest.service('board').find())
  found.wrong = await outcome(rest.client.authenticate({ strategy: 'local', username: 'alice', password: 'wrong horse' }))
  found.session = await join(rest, 'alice')

  const listener = open(url, appId)
  await join(listener, 'bob')
  const event = next(listener.socket, 'notes created')
  found.created = await notes.create({ text: 'over rest', n: 1 })
  found.event = (await event)[0]
  const id = found.created._id
  found.got = await notes.get(id)
  found.patched = await notes.patch(id, { text: 'patched' })
  found.updated = await notes.update(id, { text: 'updated' })
  found.many = await notes.create([{ text: 'b & b = ü/?#' }, { text: 'c' }])
  found.found = await notes.find({ query: { text: { $in: ['b & b = ü/?#', 'c'] }, $sort: { text: -1 }, $limit: 1 } })
  found.removed = await notes.remove(id)
  found.gone = await outcome(notes.get(id))
  found.service = await outcome(rest.service('nothing').find())
  found.oddId = await notes.create({ _id: 'a b+ü', text: 'odd' })
  found.oddGot = await outcome(notes.get('a b+ü'))
  found.noApp = await outcome(openRest(url, '').service('board').find())
  found.unknownApp = await outcome(openRest(url, 'nope').service('board').find())
  await rest.client.logout()
  found.after = await outcome(notes.find())
  return found
})
