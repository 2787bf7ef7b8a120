/** Connections that are refused: what `connect_error` says, and that the client gives up. */
import { open, outcome, raw, report } from './client.mjs'
import { io } from 'socket.io-client'

await report(async ({ url, transports }) => {
  const refused = (options) => new Promise((resolve, reject) => {
    const socket = io(url, { forceNew: true, transports, ...options })
    socket.once('connect', () => reject(new Error('was let in')))
    socket.once('connect_error', (error) => {
      resolve({ message: error.message, data: error.data, active: socket.active, connected: socket.connected })
    })
  })

  const found = {}
  found.missing = await refused({})
  found.empty = await refused({ query: { appId: '' } })
  found.unknown = await refused({ query: { appId: 'nope' } })
  found.malformed = await refused({ query: { appId: '../acme' } })
  found.list = await refused({ query: { appId: ['acme', 'globex'] } })
  found.origin = await refused({ query: { appId: 'acme' }, extraHeaders: { Origin: 'http://evil.example' } })
  const { socket } = open(url, 'acme', { transports, extraHeaders: { Origin: 'https://good.example' } })
  found.goodOrigin = await outcome(raw(socket, 'find', 'board', {}))
  return found
})
