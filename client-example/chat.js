/**
 * One chat for each `<section data-app>`: its own connection, its own login, its own messages. The official clients do
 * the work (`feathers` and `io` come from their browser bundles); what follows is the page around them.
 */
import { lasting } from './session.js'

const { feathers, io } = window

for (const section of document.querySelectorAll('section[data-app]')) openChat(section)

function openChat (section) {
  const { app, name } = section.dataset
  section.append(document.querySelector('#chat').content.cloneNode(true))
  const part = (selector) => section.querySelector(selector)
  const [login, room, log, send] = ['.login', '.room', '.messages', '.send'].map(part)
  part('h2').textContent = name
  part('.badge').textContent = name[0]

  // The app is named once, in the handshake. `forceNew`: each app has a connection of its own.
  const socket = io({ query: { appId: app }, forceNew: true })
  // Session storage belongs to one tab, so two tabs can be two people. Each app keeps its tokens under its own key.
  const client = feathers()
    .configure(feathers.socketio(socket))
    .configure(feathers.authentication({
      Authentication: lasting(feathers.authentication), storage: window.sessionStorage, storageKey: `roost-${app}`
    }))
  const messages = client.service('messages')

  let user = null
  let busy = false

  socket.on('connect', () => attempt(resume))
  socket.on('disconnect', (reason, details) => {
    busy = false // what was under way is not answered any more
    refuse(details)
    refresh(reason)
  })
  socket.on('connect_error', (error) => {
    refuse(error)
    refresh(error.message)
  })
  // Events come for what one may read. What is made private again is `removed` for all but its owner.
  messages.on('created', show)
  messages.on('patched', show)
  messages.on('removed', ({ _id }) => drop(_id))
  client.service('authentication').on('removed', ({ reason }) => {
    if (reason === 'expired') return attempt(resume)
    leave()
    tell({ message: 'You have been logged out.' })
  })
  refresh()

  part('.reconnect').addEventListener('click', () => {
    tell(null)
    socket.connect()
    refresh()
  })

  login.addEventListener('submit', (event) => {
    event.preventDefault()
    const account = Object.fromEntries(new FormData(login))
    attempt(async () => {
      if (event.submitter?.value === 'signup') await client.service('users').create(account)
      await enter(await client.authenticate({ strategy: 'local', ...account }))
      send.elements.text.focus()
    })
  })

  part('.logout').addEventListener('click', () => attempt(async () => {
    await client.logout()
    leave()
    login.elements.username.focus()
  }))

  // Ends every session of this user: each of their tabs and devices hears of it, this one too.
  part('.everywhere').addEventListener('click', () => attempt(() => client.service('sessions').remove(null)))

  // Whose it is and when it was written, the server fills in.
  send.addEventListener('submit', (event) => {
    event.preventDefault()
    const text = send.elements.text.value.trim()
    if (text === '') return
    attempt(async () => {
      await messages.create({ text, public: !send.elements.private.checked })
      send.reset()
      log.scrollTop = 0 // the newest: the list grows upwards (`column-reverse`)
    })
  })

  log.addEventListener('click', async ({ target }) => {
    const item = target.closest('.share') && target.closest('li')
    if (!item) return
    await attempt(() => messages.patch(item.dataset.id, { public: 'private' in item.dataset }))
    itemOf(item.dataset.id)?.querySelector('.share').focus()
  })

  /** After each connect: with tokens in store the client logs in again, without them the form is there. */
  async function resume () {
    try {
      await enter(await client.reAuthenticate())
    } catch (error) {
      const known = user !== null
      leave()
      if (known || error.code !== 401) throw error
    }
  }

  async function enter (session) {
    user = session.user
    login.reset()
    seat()
    log.ariaLive = 'off' // what was said before is not read aloud, what comes is
    const page = await messages.find({ query: { $sort: { at: -1 }, $limit: 50 } })
    part('ol').replaceChildren() // some may have gone while the line was down
    page.data.reverse().forEach(show)
    log.scrollTop = 0
    log.ariaLive = 'polite'
  }

  function leave () {
    user = null
    part('ol').replaceChildren()
    seat()
  }

  /** Shows the room to those who are logged in, the door to others. */
  function seat () {
    login.hidden = user !== null
    room.hidden = part('.exits').hidden = user === null
    part('.account').textContent = user ? `You are ${user.username}` : 'Not signed in'
  }

  /** Does one step of the dialogue and tells of its failure. The buttons rest meanwhile. */
  async function attempt (step) {
    busy = true
    tell(null)
    refresh()
    try {
      await step()
    } catch (error) {
      tell(error)
    }
    busy = false
    refresh()
  }

  /** Puts a message in its place by time, instead of what was known of it before. */
  function show (message) {
    if (!user) return
    const item = document.querySelector('#message').content.cloneNode(true).firstElementChild
    const isOwn = message.owner_id === user._id
    Object.assign(item.dataset, { id: message._id, from: message.from, at: message.at })
    if (!message.public) item.dataset.private = ''
    item.classList.toggle('own', isOwn)
    item.style.setProperty('--hue', hueOf(message.from))
    item.querySelector('.avatar').textContent = [...message.from][0]
    item.querySelector('b').textContent = message.from
    item.querySelector('time').textContent = timeOf(message.at)
    item.querySelector('time').dateTime = message.at
    item.querySelector('.text').textContent = message.text
    item.querySelector('.share').hidden = !isOwn
    item.querySelector('.share').textContent = message.public ? 'Make private' : 'Make public'
    const known = itemOf(message._id)
    if (known) known.replaceWith(item)
    else part('ol').insertBefore(item, [...part('ol').children].find(({ dataset }) => dataset.at > message.at) ?? null)
    group()
  }

  function drop (id) {
    itemOf(id)?.remove()
    group()
  }

  function itemOf (id) {
    return part(`li[data-id="${CSS.escape(id)}"]`)
  }

  /** What one person says in a row stands together. */
  function group () {
    for (const { classList, dataset, previousElementSibling: last } of part('ol').children) {
      const isSoon = last && new Date(dataset.at) - new Date(last.dataset.at) < 300_000
      const isAlike = last?.dataset.from === dataset.from && last?.dataset.private === dataset.private
      classList.toggle('more', Boolean(isSoon && isAlike))
    }
  }

  /** Tells why the server did not let the page in. Its silence is none: then the client tries again by itself. */
  function refuse (error) {
    const refusal = refusalOf(error)
    if (refusal) tell(refusal.data?.reason === 'OriginNotAllowed' ? { message: strangerTo(app) } : refusal)
  }

  function tell (error) {
    const details = Array.isArray(error?.data) ? error.data.map(({ path, message }) => `${path} ${message}`) : []
    part('.error').textContent = error ? [error.message, ...details].join(': ') : ''
  }

  function refresh (reason = '') {
    const state = socket.connected ? 'online' : socket.active ? 'waiting' : 'offline'
    part('.state').textContent = { online: 'Online', waiting: 'Connecting…', offline: 'Not connected' }[state]
    part('.state').dataset.state = state
    part('.state').title = reason
    part('.reconnect').hidden = state !== 'offline'
    for (const button of section.querySelectorAll('button:not(.reconnect)')) button.disabled = busy || state !== 'online'
  }
}

/** What the server said: to the socket, or with the status of an HTTP request of its handshake. */
function refusalOf (error) {
  if (error?.data) return error
  try {
    const answer = JSON.parse(error.context.responseText)
    return answer.code >= 400 && answer.message ? answer : null
  } catch {
    return null
  }
}

function strangerTo (app) {
  const { origin } = window.location
  return `This page comes from ${origin}, which is not among the allowed_origins of the app '${app}'. ` +
    'Add it there (for this example in demo.yaml) and apply the file, or open the page at an address that is listed.'
}

function timeOf (at) {
  const date = new Date(at)
  const today = date.toDateString() === new Date().toDateString()
  const day = today ? {} : { day: 'numeric', month: 'short' }
  return date.toLocaleString([], { ...day, hour: 'numeric', minute: '2-digit' })
}

/** A colour for a name: always the same one, and hardly the neighbour's. */
function hueOf (name) {
  return [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 360, 7)
}
