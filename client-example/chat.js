/**
 * One chat for each `<section data-app>`: its own connection, its own login, its own messages. The official clients do
 * the work (`feathers` and `io` come from their browser bundles); what follows is the page around them.
 */
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
  // Session storage belongs to one tab, so two tabs can be two people. Each app keeps its token under its own key.
  const client = feathers()
    .configure(feathers.socketio(socket))
    .configure(feathers.authentication({ storage: window.sessionStorage, storageKey: `roost-${app}` }))
  const messages = client.service('messages')

  const shown = new Set()
  let user = null
  let busy = false

  socket.on('connect', () => attempt(resume))
  socket.on('disconnect', (reason) => {
    busy = false // what was under way is not answered any more
    refresh(reason)
  })
  socket.on('connect_error', (error) => {
    refresh(error.message)
    if (!socket.active) tell(error) // refused for good; otherwise the client tries again by itself
  })
  messages.on('created', show)
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

  send.addEventListener('submit', (event) => {
    event.preventDefault()
    const text = send.elements.text.value.trim()
    if (text === '') return
    attempt(async () => {
      await messages.create({ text, from: user.username, at: new Date().toISOString() })
      send.reset()
      log.scrollTop = 0 // the newest: the list grows upwards (`column-reverse`)
    })
  })

  /** After each connect: with a token in store the client logs in again, without one the form is there. */
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
    page.data.reverse().forEach(show)
    log.scrollTop = 0
    log.ariaLive = 'polite'
  }

  function leave () {
    user = null
    shown.clear()
    part('ol').replaceChildren()
    seat()
  }

  /** Shows the room to those who are logged in, the door to others. */
  function seat () {
    login.hidden = user !== null
    room.hidden = part('.logout').hidden = user === null
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
      if (user && error.code === 401) { // the login has run out
        leave()
        client.logout()
      }
    }
    busy = false
    refresh()
  }

  function show (message) {
    if (!user || shown.has(message._id)) return
    shown.add(message._id)
    const last = part('li:last-child')?.dataset
    const item = document.querySelector('#message').content.cloneNode(true).firstElementChild
    Object.assign(item.dataset, { from: message.from, at: message.at })
    item.classList.toggle('own', message.from === user.username)
    item.classList.toggle('more', last?.from === message.from && new Date(message.at) - new Date(last.at) < 300_000)
    item.style.setProperty('--hue', hueOf(message.from))
    item.querySelector('.avatar').textContent = [...message.from][0]
    item.querySelector('b').textContent = message.from
    item.querySelector('time').textContent = timeOf(message.at)
    item.querySelector('time').dateTime = message.at
    item.querySelector('.text').textContent = message.text
    part('ol').append(item)
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
    for (const button of section.querySelectorAll('form button, .logout')) button.disabled = busy || state !== 'online'
  }
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
