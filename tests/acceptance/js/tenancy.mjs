/** Two apps on one server, used in the same moment by people of the same names. */
import { join, next, open, openRest, outcome, report } from './client.mjs'

await report(async ({ url, transports }) => {
  const acme = open(url, 'acme', { transports })
  const globex = open(url, 'globex', { transports })
  const found = {}
  found.acmeUser = (await join(acme, 'alice', 'acme password')).user
  found.globexUser = (await join(globex, 'alice', 'globex password')).user

  const login = (app, password) => outcome(app.client.authenticate({ strategy: 'local', username: 'alice', password }))
  found.foreignPassword = await login(open(url, 'globex', { transports }), 'acme password')
  const stranger = open(url, 'globex', { transports, storage: acme.storage })
  found.foreignToken = await outcome(stranger.client.reAuthenticate())
  found.afterForeignToken = await outcome(stranger.service('notes').find())
  const rest = openRest(url, 'globex')
  const { accessToken } = await acme.client.get('authentication')
  found.foreignTokenOverRest = await outcome(rest.service('notes').find({ headers: { Authorization: accessToken } }))

  acme.heard.length = globex.heard.length = 0
  const mine = await acme.service('notes').create({ text: 'secret of acme' })
  await acme.service('board').create({ text: 'public in acme' })
  const theirs = await globex.service('notes').create({ text: 'secret of globex' })
  found.sameId = await outcome(Promise.all([acme, globex].map((app) => (
    app.service('notes').create({ _id: 'the-same', text: 'both' })
  ))))

  const notes = globex.service('notes')
  found.get = await outcome(notes.get(mine._id))
  found.patch = await outcome(notes.patch(mine._id, { text: 'stolen' }))
  found.update = await outcome(notes.update(mine._id, { text: 'stolen' }))
  found.remove = await outcome(notes.remove(mine._id))
  found.user = await outcome(globex.service('users').get(found.acmeUser._id))
  found.find = await notes.find({ query: { $or: [{ _id: mine._id }, { text: { $ne: '' } }] } })
  found.patchAll = await notes.patch(null, { seen: true })
  found.removeAll = await notes.remove(null)
  found.users = await globex.service('users').find()
  found.board = await globex.service('board').find()

  found.acmeNotes = await acme.service('notes').find({ query: { $sort: { text: 1 } } })
  const last = [acme, globex].map((app) => next(app.socket, 'notes created'))
  await acme.service('notes').create({ text: 'last of acme' })
  await globex.service('notes').create({ text: 'last of globex' })
  await Promise.all(last)
  found.ids = { mine: mine._id, theirs: theirs._id }
  found.acmeHeard = acme.heard
  found.globexHeard = globex.heard
  return found
})
