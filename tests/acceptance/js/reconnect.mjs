/** The connection breaks under a client that is logged in; and a later client takes up the stored token. */
import { join, next, open, outcome, report } from './client.mjs'

await report(async ({ url, appId, transports }) => {
  const alice = open(url, appId, { transports })
  const bob = open(url, appId, { transports })
  const session = await join(alice, 'alice')
  await join(bob, 'bob')
  const found = { firstId: alice.socket.id }

  const back = next(alice.socket, 'connect')
  alice.socket.io.engine.close()
  await back
  found.secondId = alice.socket.id
  found.session = await outcome(alice.client.reAuthenticate())
  found.call = await outcome(alice.service('notes').create({ text: 'still me' }))
  const event = next(alice.socket, 'notes created')
  await bob.service('notes').create({ text: 'welcome back' })
  found.event = (await event)[0]

  const later = open(url, appId, { transports, storage: alice.storage })
  found.restored = await outcome(later.client.reAuthenticate())
  found.sameToken = found.restored.result?.accessToken === session.accessToken
  later.storage.setItem('feathers-jwt', `${session.accessToken.slice(0, -4)}AAAA`)
  const forger = open(url, appId, { transports, storage: later.storage })
  found.forged = await outcome(forger.client.reAuthenticate())
  found.forgedStored = forger.storage.getItem('feathers-jwt')
  found.forgerConnected = forger.socket.connected
  return found
})
