/** What an app sees of things that go wrong. Every call is answered. */
import { join, open, outcome, raw, report } from './client.mjs'

await report(async ({ url, appId, transports }) => {
  const app = open(url, appId, { transports })
  const notes = app.service('notes')
  const packet = (...args) => outcome(raw(app.socket, ...args))
  const custom = app.service('notes').methods('fly')

  const found = {}
  found.anonymous = await outcome(notes.find())
  await join(app, 'alice')
  const { _id } = await notes.create({ text: 'one' })
  found.service = await outcome(app.service('nothing').find())
  found.constructor = await outcome(app.service('constructor').find())
  found.proto = await packet('find', '__proto__', {})
  found.method = await outcome(custom.fly({}))
  found.protoMethod = await packet('__proto__', 'notes', {})
  found.notOffered = await outcome(app.service('authentication').find())
  found.ruledOut = await outcome(app.service('board').remove('some-id'))
  found.noPath = await packet('find')
  found.numberPath = await packet('find', 7, {})
  found.tooMany = await packet('find', 'notes', {}, {}, {})
  found.noQuery = await packet('find', 'notes')
  found.unknownId = await outcome(notes.get('123456789012345678901234'))
  found.nullId = await outcome(notes.get(null))
  found.objectId = await outcome(notes.get({ $ne: null }))
  found.invalid = await outcome(notes.create({ n: 'many' }))
  found.operator = await outcome(notes.find({ query: { text: { $where: '1' } } }))
  found.filter = await outcome(notes.find({ query: { $where: '1' } }))
  found.nested = await outcome(notes.find({ query: { n: { $in: [{ $where: '1' }] } } }))
  found.updateAll = await outcome(notes.update(null, { text: 'all' }))
  found.notMulti = await outcome(app.service('board').create([{ text: 'a' }, { text: 'b' }]))
  found.appId = await outcome(notes.create({ text: 'x', app_id: 'globex' }))
  found.queryAppId = await outcome(notes.find({ query: { app_id: 'globex' } }))
  found.operatorData = await outcome(notes.patch(_id, { $set: { app_id: 'globex' } }))
  found.alive = await outcome(notes.get(_id))
  return found
})
