/**
 * The same chat from a terminal:  node chat.mjs <appId> <name> <password> [url]
 *
 * Every line that is typed becomes a message, `/me <line>` one that nobody else sees. `/public` shows the last of one's
 * own to all, `/private` takes it back, `/everywhere` logs out on all devices. Ctrl-D ends it.
 */
import { createInterface } from 'node:readline'
import feathers from '@feathersjs/client'
import { io } from 'socket.io-client'
import { lasting } from './session.js'

const [appId, username, password, url = 'http://127.0.0.1:3030'] = process.argv.slice(2)
if (!password) {
  console.error('usage: node chat.mjs <appId> <name> <password> [url]')
  process.exit(2)
}

const socket = io(url, { query: { appId } })
const client = feathers()
  .configure(feathers.socketio(socket))
  .configure(feathers.authentication({
    Authentication: lasting(feathers.authentication), storage: new feathers.authentication.MemoryStorage()
  }))
const messages = client.service('messages')
const lines = createInterface({ input: process.stdin })
const print = ({ at, from, text, public: isPublic }) =>
  console.log(`${new Date(at).toLocaleTimeString()}  ${from}${isPublic ? '' : ' (only you)'}: ${text}`)

const commands = {
  me: (text) => messages.create({ text, public: false }),
  public: () => patchLast({ public: true }),
  private: () => patchLast({ public: false }),
  everywhere: () => client.service('sessions').remove(null)
}

async function patchLast (change) {
  const { data: [last] } = await messages.find({ query: { owner_id: me._id, $sort: { at: -1 }, $limit: 1 } })
  if (last) await messages.patch(last._id, change)
}

/** The server was away, or the access token has run out: the refresh token is enough to come back. */
async function comeBack () {
  try {
    await client.reAuthenticate()
    console.log('You are back.')
  } catch (error) {
    fail(error)
  }
}

function fail (error) {
  console.error(`${error.name}: ${error.message}`)
  process.exitCode = 1
  lines.close()
}

let me
try {
  await new Promise((resolve, reject) => socket.once('connect', resolve).once('connect_error', reject))
  await client.service('users').create({ username, password }).catch((error) => {
    if (error.code !== 409) throw error // 409: signed up already, so log in
  })
  me = (await client.authenticate({ strategy: 'local', username, password })).user
  socket.on('connect', comeBack)
  client.service('authentication').on('removed', ({ reason }) => {
    if (reason === 'expired') return comeBack()
    console.log('You have been logged out.')
    lines.close()
  })
  messages.on('created', print)
  messages.on('patched', print)
  messages.on('removed', () => console.log('A message was made private.'))
  const { data } = await messages.find({ query: { $sort: { at: -1 }, $limit: 10 } })
  data.reverse().forEach(print)
  console.log(`You are ${me.username} in ${appId}. Write something.`)

  for await (const line of lines) {
    const [, command, text = ''] = /^\/(me|public|private|everywhere)(?: (.*))?$/.exec(line) ?? [null, null, line]
    if (command) await commands[command](text)
    else if (text.trim()) await messages.create({ text, public: true })
  }
  if (socket.connected) await client.logout()
} catch (error) {
  fail(error)
}
socket.close()
