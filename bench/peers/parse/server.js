// Parse Server with several apps in one process. Parse knows one app per server, so the apps are kept apart by
// cloud triggers: each user belongs to one app, each record is stamped with its writer's app, each query and each
// live subscription is bound to its reader's app.
import express from 'express'
import { createServer } from 'node:http'
import { ParseServer } from 'parse-server'

const { PORT, MONGODB_URI, DATABASE } = process.env
const url = `http://127.0.0.1:${PORT}/parse`
const loggedIn = { requiresAuthentication: true }

function appOf(user) {
  const app = user?.get('app')
  if (!app) throw new Parse.Error(Parse.Error.SESSION_MISSING, 'Not authenticated')
  return app
}

function configureCloud() {
  Parse.Cloud.beforeSave(Parse.User, ({ object, original, user, master }) => {
    if (master) return
    if (original) object.set('app', original.get('app'))
    else if (!object.get('app')) throw new Parse.Error(Parse.Error.VALIDATION_ERROR, 'No app')
    if (original && user?.id !== original.id) throw new Parse.Error(Parse.Error.OPERATION_FORBIDDEN, 'Not yours')
  })
  Parse.Cloud.beforeSave('Message', ({ object, original, user }) => {
    const app = appOf(user)
    if (original && original.get('app') !== app) throw new Parse.Error(Parse.Error.OBJECT_NOT_FOUND, 'Object not found.')
    object.set('app', app)
  })
  Parse.Cloud.beforeDelete('Message', ({ object, user }) => {
    if (object.get('app') !== appOf(user)) throw new Parse.Error(Parse.Error.OBJECT_NOT_FOUND, 'Object not found.')
  })
  Parse.Cloud.beforeFind('Message', ({ query, user }) => {
    query.equalTo('app', appOf(user))
  })
  Parse.Cloud.beforeSubscribe('Message', ({ query, user }) => {
    query.equalTo('app', appOf(user))
  })
}

const options = {
  appId: 'bench',
  masterKey: 'a key of the benchmark only',
  databaseURI: MONGODB_URI.replace('/?', `/${DATABASE}?`),
  serverURL: url,
  cloud: configureCloud,
  liveQuery: { classNames: ['Message'] },
  allowClientClassCreation: false,
  allowExpiredAuthDataToken: false,
  silent: true,
  logsFolder: null,
  logLevel: 'error',
  schema: {
    definitions: [
      {
        className: 'Message',
        fields: { app: { type: 'String' }, room: { type: 'String' }, n: { type: 'Number' }, text: { type: 'String' } },
        indexes: { app_room_n: { app: 1, room: 1, n: 1 } },
        classLevelPermissions: {
          find: loggedIn, get: loggedIn, count: loggedIn, create: loggedIn, update: loggedIn, delete: loggedIn
        }
      },
      {
        className: '_User',
        fields: { app: { type: 'String' } },
        classLevelPermissions: { get: loggedIn, create: { '*': true }, update: loggedIn, delete: loggedIn }
      }
    ]
  }
}
const parse = await new ParseServer(options).start()

const app = express()
app.use('/parse', parse.app)
const server = createServer(app)
server.listen(Number(PORT), '127.0.0.1')
await ParseServer.createLiveQueryServer(server, {}, options)

process.on('SIGTERM', () => process.exit(0))
