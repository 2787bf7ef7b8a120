/** The official clients, opened as an app would open them, and what the scenarios need to look at them. */
import feathers from '@feathersjs/client'
import { io } from 'socket.io-client'

const PATIENCE = 5_000

/** A client of one app over Socket.IO. `heard` collects every event that is pushed, with all of its arguments. */
export function open (url, appId, { storage = new Storage(), ...options } = {}) {
  const socket = io(url, { query: { appId }, forceNew: true, reconnectionDelay: 50, ...options })
  const client = feathers()
    .configure(feathers.socketio(socket))
    .configure(feathers.authentication({ storage }))
  const heard = []
  socket.onAny((event, ...args) => heard.push({ event, args }))
  return { socket, client, storage, heard, service: (path) => client.service(path) }
}

/** A client of one app over REST. */
export function openRest (url, appId) {
  const client = feathers()
    .configure(feathers.rest(url).fetch(fetch, { headers: { 'x-app-id': appId } }))
    .configure(feathers.authentication({ storage: new Storage() }))
  return { client, service: (path) => client.service(path) }
}

/** Signs a user up and logs in. */
export async function join ({ client }, username, password = 'correct horse') {
  await client.service('users').create({ username, password })
  return client.authenticate({ strategy: 'local', username, password })
}

/** The next time that this happens: the arguments of the event. */
export function next (emitter, event) {
  return within(new Promise((resolve) => emitter.once(event, (...args) => resolve(args))), `no '${event}'`)
}

/** What became of a call: `{result}`, or `{error}` with what an app sees of it, or `{error: {silence}}`. */
export async function outcome (call) {
  try {
    return { result: await within(call, 'no answer') }
  } catch (error) {
    const { name, message, code, className, data, errors, silence } = error
    const isOfItsClass = feathers.errors[name] !== undefined && error instanceof feathers.errors[name]
    return { error: { name, message, code, className, data, errors, silence, isOfItsClass } }
  }
}

/** A raw packet: the arguments that the server gives to the acknowledgement. */
export function raw (socket, ...packet) {
  return within(new Promise((resolve) => socket.emit(...packet, (...args) => resolve(args))), 'no answer')
}

/** Runs a scenario with the arguments of the command line and prints what it found as JSON. */
export async function report (scenario) {
  const found = await scenario(JSON.parse(process.argv[2]))
  process.stdout.write(JSON.stringify(found), () => process.exit(0))
}

function within (promise, silence) {
  let timer
  const limit = new Promise((resolve, reject) => {
    timer = setTimeout(() => reject(Object.assign(new Error(silence), { silence })), PATIENCE)
  })
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer))
}

/** A token store of one's own: the default one is shared by all clients of a process. */
export class Storage {
  #items = new Map()
  getItem (key) { return this.#items.get(key) ?? null }
  setItem (key, value) { this.#items.set(key, value) }
  removeItem (key) { this.#items.delete(key) }
}
