// The correctness check: what every server must do before it is measured, seen through the official client.
// Two apps with users of the same name; two clients of the first app, one of the second.
import assert from 'node:assert/strict'
import feathers from '@feathersjs/client'
import { io } from 'socket.io-client'

const [url, one, two] = process.argv.slice(2)
const ONE = { username: 'ann', password: 'the password of app one' }
const TWO = { username: 'ann', password: 'the password of app two' }
const PATIENCE = 5000
const open = []

function connect(appId, transports) {
  const socket = io(url, { query: { appId }, transports, reconnection: false, forceNew: true })
  const app = feathers()
  const storage = new feathers.authentication.MemoryStorage()
  app.configure(feathers.socketio(socket, { timeout: PATIENCE }))
  app.configure(feathers.authentication({ storage }))
  const heard = []
  for (const event of ['created', 'patched', 'removed']) {
    app.service('messages').on(event, (record) => heard.push([event, record]))
  }
  open.push(socket)
  return { app, heard, messages: app.service('messages'), users: app.service('users') }
}

const login = (client, user) => client.app.authenticate({ strategy: 'local', ...user })
const refused = (promise, ...codes) =>
  assert.rejects(promise, (error) => codes.includes(error.code) || assert.fail(`answered ${error.code}: ${error.message}`))

async function heard(client, event, id) {
  const end = Date.now() + PATIENCE
  while (Date.now() < end) {
    const found = client.heard.find(([name, record]) => name === event && record._id === id)
    if (found) return found[1]
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  assert.fail(`'${event}' of ${id} was not heard`)
}

async function check() {
  const polling = ['polling', 'websocket']
  const [first, second, stranger] = [connect(one, polling), connect(one, ['websocket']), connect(two, ['websocket'])]

  await refused(first.messages.find({ query: {} }), 401)
  await first.users.create(ONE)
  await stranger.users.create(TWO)
  await refused(login(first, TWO), 401)
  await refused(login(stranger, ONE), 401)
  const { accessToken, user } = await login(first, ONE)
  assert.equal(user.username, 'ann')
  assert.equal(user.password, undefined)
  await second.app.authenticate({ strategy: 'jwt', accessToken })
  await login(stranger, TWO)

  const made = await first.messages.create({ room: 'hall', n: 1, text: 'hello' })
  assert.equal(made.text, 'hello')
  assert.equal(typeof made._id, 'string')
  assert.equal((await heard(first, 'created', made._id)).text, 'hello')
  assert.equal((await heard(second, 'created', made._id)).text, 'hello')
  assert.equal((await second.messages.get(made._id)).n, 1)

  await refused(stranger.messages.get(made._id), 404)
  await refused(stranger.messages.patch(made._id, { text: 'mine' }), 404)
  await refused(stranger.messages.remove(made._id), 404)
  assert.equal((await stranger.messages.find({ query: {} })).total, 0)

  // Naming the other app in data or query must not reach it, whether it is refused or ignored.
  const forged = { room: 'hall', n: 2, text: 'forged', app_id: one }
  await stranger.messages.create(forged).catch((error) => assert.equal(error.code, 400))
  const asked = await stranger.messages.find({ query: { app_id: one } }).catch((error) => assert.equal(error.code, 400))
  assert.ok(!asked?.data.some((record) => record.text === 'hello'))
  assert.equal((await first.messages.find({ query: {} })).total, 1)

  const patched = await second.messages.patch(made._id, { text: 'changed' })
  assert.deepEqual([patched.text, patched.n, patched._id], ['changed', 1, made._id])
  assert.equal((await heard(first, 'patched', made._id)).text, 'changed')

  for (let n = 0; n < 59; n += 1) await first.messages.create({ room: 'lobby', n, text: `number ${n}` })
  const page = await second.messages.find({ query: { room: 'lobby', $sort: { n: -1 }, $limit: 10, $skip: 1 } })
  assert.deepEqual([page.total, page.limit, page.skip], [59, 10, 1])
  assert.deepEqual(page.data.map(({ n }) => n), [57, 56, 55, 54, 53, 52, 51, 50, 49, 48])
  assert.equal((await second.messages.find({ query: {} })).limit, 10)
  assert.equal((await second.messages.find({ query: { $limit: 1000 } })).data.length, 50)

  await first.messages.remove(made._id)
  await heard(second, 'removed', made._id)
  await refused(first.messages.get(made._id), 404)

  const thief = connect(two, ['websocket'])
  await refused(thief.app.authenticate({ strategy: 'jwt', accessToken }), 401, 403)
  await refused(thief.messages.find({ query: {} }), 401)
  await refused(connect(one, ['websocket']).messages.find({ query: {} }), 401)

  const foreign = [...stranger.heard, ...thief.heard].filter(([, record]) => record.text !== 'forged')
  assert.deepEqual(foreign, [], 'the other app heard events')
}

check()
  .then(
    () => 0,
    (error) => {
      console.error(error)
      return 1
    }
  )
  .then((code) => {
    for (const socket of open) socket.close()
    process.exit(code)
  })
