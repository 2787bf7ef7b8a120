// Feathers 5 with several apps in one process: the app comes from the handshake, two hooks keep records apart,
// each app has a channel of its own. Set up as the guides do it.
import { authenticate, AuthenticationService, JWTStrategy } from '@feathersjs/authentication'
import { hooks as local, LocalStrategy } from '@feathersjs/authentication-local'
import { BadRequest, NotAuthenticated, NotFound } from '@feathersjs/errors'
import { feathers } from '@feathersjs/feathers'
import { bodyParser, errorHandler, koa, parseAuthentication, rest } from '@feathersjs/koa'
import { MongoDBService } from '@feathersjs/mongodb'
import socketio from '@feathersjs/socketio'
import { MongoClient } from 'mongodb'

const { PORT, MONGODB_URI, DATABASE, AUTHENTICATE = 'connection' } = process.env

const client = await MongoClient.connect(MONGODB_URI)
const database = client.db(DATABASE)
await database.collection('messages').createIndex({ app_id: 1, room: 1, n: 1 })
await database.collection('users').createIndex({ app_id: 1, username: 1 }, { unique: true })

// Every call from outside runs in the app of its connection; authentication passes `appId` on to its internal calls.
function appOf(context) {
  const { appId } = context.params
  if (typeof appId !== 'string' || appId === '') throw new BadRequest('No app')
  return appId
}

async function injectAppId(context) {
  const app_id = appOf(context)
  const stamp = (record) => ({ ...record, app_id })
  context.data = Array.isArray(context.data) ? context.data.map(stamp) : stamp(context.data)
}

async function enforceAppId(context) {
  context.params.query = { ...context.params.query, app_id: appOf(context) }
}

// AUTHENTICATE=connection relies on the login that the connection remembers: the cheaper way, and the default here.
// AUTHENTICATE=call verifies the token and loads the user again with every call: what `authenticate('jwt')` does.
const authenticated =
  AUTHENTICATE === 'call'
    ? authenticate('jwt')
    : async (context) => {
        if (context.params.provider && !context.params.user) throw new NotAuthenticated('Not authenticated')
      }

class AppLocalStrategy extends LocalStrategy {
  async getEntityQuery(query, params) {
    return { ...(await super.getEntityQuery(query, params)), app_id: params.appId }
  }
}

class AppJWTStrategy extends JWTStrategy {
  async getEntityQuery(params) {
    return { app_id: params.appId }
  }

  async getEntity(id, params) {
    try {
      return await super.getEntity(id, params)
    } catch (error) {
      if (error instanceof NotFound) throw new NotAuthenticated('No such user in this app')
      throw error
    }
  }
}

const app = koa(feathers())
app.use(errorHandler())
app.use(parseAuthentication())
app.use(bodyParser())
app.configure(rest())
app.configure(
  socketio((io) => {
    io.use((socket, next) => {
      socket.feathers.appId = socket.handshake.query.appId
      next(socket.feathers.appId ? undefined : new Error('appId is missing'))
    })
  })
)

app.set('authentication', {
  entity: 'user',
  service: 'users',
  secret: 'a secret of the benchmark only',
  authStrategies: ['jwt', 'local'],
  local: { usernameField: 'username', passwordField: 'password' }
})

const authentication = new AuthenticationService(app)
authentication.register('jwt', new AppJWTStrategy())
authentication.register('local', new AppLocalStrategy())
app.use('authentication', authentication)

const paginate = { default: 10, max: 50 }
app.use('users', new MongoDBService({ Model: database.collection('users'), paginate }))
app.use('messages', new MongoDBService({ Model: database.collection('messages'), paginate }))

const appHooks = { all: [enforceAppId], create: [injectAppId], update: [injectAppId], patch: [injectAppId] }

app.service('users').hooks({
  before: {
    ...appHooks,
    find: [authenticated],
    get: [authenticated],
    create: [injectAppId, local.hashPassword('password')],
    update: [authenticated, injectAppId, local.hashPassword('password')],
    patch: [authenticated, injectAppId, local.hashPassword('password')],
    remove: [authenticated]
  },
  after: { all: [local.protect('password')] }
})

app.service('messages').hooks({ before: { ...appHooks, all: [authenticated, enforceAppId] } })

app.on('login', (_result, { connection }) => {
  if (connection) app.channel(`app/${connection.appId}`).join(connection)
})
app.publish((_data, context) => (context.params.appId ? app.channel(`app/${context.params.appId}`) : null))

const server = await app.listen(Number(PORT), '127.0.0.1')

process.on('SIGTERM', async () => {
  server.closeAllConnections()
  await client.close()
  process.exit(0)
})
