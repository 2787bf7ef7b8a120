/**
 * The same chat from a terminal:  node chat.mjs <appId> <name> <password> [url]
 * Every line that is typed becomes a message; Ctrl-D ends it.
 */
import { createInterface } from 'node:readline'
import feathers from '@feathersjs/client'
import { io } from 'socket.io-client'

const [appId, username, password, url = 'http://127.0.0.1:3030'] = process.argv.slice(2)
if (!password) {
  console.error('usage: node chat.mjs <appId> <name> <password> [url]')
  process.exit(2)
}

const socket = io(url, { query: { appId } })
const client = feathers().configure(feathers.socketio(socket)).configure(feathers.authentication())
const messages = client.service('messages')
const print = ({ at, from, text }) => console.log(`${new Date(at).toLocaleTimeString()}  ${from}: ${text}`)

try {
  await new Promise((resolve, reject) => socket.once('connect', resolve).once('connect_error', reject))
  await client.service('users').create({ username, password }).catch((error) => {
    if (error.code !== 409) throw error // 409: signed up already, so log in
  })
  const { user } = await client.authenticate({ strategy: 'local', username, password })
  messages.on('created', print)
  const { data } = await messages.find({ query: { $sort: { at: -1 }, $limit: 10 } })
  data.reverse().forEach(print)
  console.log(`You are ${user.username} in ${appId}. Write something.`)

  for await (const line of createInterface({ input: process.stdin })) {
    if (line.trim()) await messages.create({ text: line, from: user.username, at: new Date().toISOString() })
  }
  await client.logout()
} catch (error) {
  console.error(`${error.name}: ${error.message}`)
  process.exitCode = 1
}
socket.close()
