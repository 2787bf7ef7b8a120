/** Sign up, log in, look around, log out. */
import { open, outcome, report } from './client.mjs'

await report(async ({ url, appId, transports }) => {
  const { client, service, socket, storage } = open(url, appId, { transports })
  const account = { username: 'alice', password: 'correct horse' }
  const login = (password) => outcome(client.authenticate({ strategy: 'local', username: 'alice', password }))

  const found = {}
  found.before = await outcome(service('users').find())
  found.signUp = await outcome(service('users').create(account))
  found.again = await outcome(service('users').create({ ...account, username: 'ALICE' }))
  found.wrong = await login('wrong horse')
  found.nobody = await outcome(client.authenticate({ strategy: 'local', username: 'nobody', password: 'wrong horse' }))
  found.operator = await outcome(client.authenticate({ strategy: 'local', username: { $ne: '' }, password: 'correct horse' }))
  found.strategy = await outcome(client.authenticate({ strategy: 'magic' }))
  found.login = await login('correct horse')
  found.stored = storage.getItem('feathers-jwt') === found.login.result?.accessToken
  found.users = await outcome(service('users').find())
  found.self = await outcome(service('users').get(found.signUp.result._id))
  found.renamed = await outcome(service('users').patch(found.signUp.result._id, { nickname: 'Al' }))
  found.transport = socket.io.engine.transport.name
  found.logout = await outcome(client.logout())
  found.forgotten = storage.getItem('feathers-jwt')
  found.after = await outcome(service('users').find())
  found.stillConnected = socket.connected
  return found
})
