// The official client against an engine: `node engine_client.mjs <directory of node_modules> <port>`. Prints one JSON object.
import { createRequire } from 'node:module'

const [directory, port] = process.argv.slice(2)
const { io } = createRequire(`${directory}/`)('socket.io-client')
const url = `http://127.0.0.1:${port}`
const call = (socket, ...packet) => new Promise((resolve) => socket.emit(...packet, (...answer) => resolve(answer)))
const once = (emitter, name) => new Promise((resolve) => emitter.once(name, (...values) => resolve(values)))

async function use(options) {
  const socket = io(url, { forceNew: true, reconnectionDelay: 50, ...options })
  const upgraded = options.transports ? null : new Promise((resolve) => socket.io.engine.once('upgrade', resolve))
  await once(socket, 'connect')
  const heard = []
  socket.on('news', (...values) => heard.push(values))
  const early = await Promise.all(Array.from({ length: 100 }, (_, n) => call(socket, 'yield', n)))
  if (upgraded) await upgraded
  const result = {
    early: early.every(([error, n], index) => error === null && n === index),
    text: await call(socket, 'echo', 'é 😀', { a: [1, null] }),
    long: (await call(socket, 'echo', 'x'.repeat(500000)))[1].length,
    answer: (await call(socket, 'long', 2000000))[1].length,
    error: (await call(socket, 'fail'))[0].code,
    binary: (await call(socket, 'echo', Buffer.from('abc')))[0].message,
    shout: await call(socket, 'shout', { n: 1 }),
    transport: socket.io.engine.transport.name
  }
  result.heard = heard
  const back = once(socket, 'disconnect').then(([reason]) => once(socket, 'connect').then(() => reason))
  socket.emit('close me')
  result.reason = await back
  socket.disconnect()
  return result
}

async function refused(options) {
  const socket = io(url, { forceNew: true, ...options, auth: { refuse: true } })
  const [error] = await once(socket, 'connect_error')
  const result = { message: error.message, data: error.data, active: socket.active }
  socket.disconnect()
  return result
}

async function namespace() {
  const socket = io(`${url}/other`, { forceNew: true })
  const [error] = await once(socket, 'connect_error')
  socket.disconnect()
  return error.message
}

console.log(JSON.stringify({
  websocket: await use({ transports: ['websocket'] }),
  polling: await use({ transports: ['polling'] }),
  upgrade: await use({}),
  refusedByPolling: await refused({}),
  refusedByWebsocket: await refused({ transports: ['websocket'] }),
  namespace: await namespace()
}))
process.exit(0)
