/** The official adapter suite, run against the declared services of one app. */
import adapterTests from '@feathersjs/adapter-tests'
import feathers from '@feathersjs/client'
import { open, openRest, report } from './client.mjs'
import { run } from './suite.mjs'

/** What the remote twins of a service are called after, by the size of their pages. */
const PAGES = { 1: 'page1', 3: 'page3', 10: 'page10' }

await report(async ({ url, appId, transport, name, id, skipped }) => {
  console.log = console.error // The suite prints a summary where the report belongs.
  const { service } = transport === 'rest' ? openRest(url, appId) : open(url, appId, { transports: [transport] })
  const people = new AdaptedService(service, name, id)
  // The suite asks this list about each of its tests: so one that a newer suite brings is run.
  const wanted = { includes: (test) => !skipped.includes(test), forEach () {} }
  return run(() => adapterTests(wanted)({ service: () => people }, feathers.errors, name, id))
})

/**
 * A service as the suite expects it, in the same process with `options` that can be changed and `params` that override
 * them. Neither travels: each call goes to the remote service, over the same collection, that was declared with them.
 */
class AdaptedService {
  options = { multi: false, paginate: false }

  constructor (remote, name, id) {
    this.remote = remote
    this.name = name
    this.id = id
  }

  find (params) { return this.#declared('find', params).find(wire(params)) }
  get (id, params) { return this.#declared('get', params).get(id, wire(params)) }
  create (data, params) { return this.#declared('create', params).create(data, wire(params)) }
  update (id, data, params) { return this.#declared('update', params).update(id, data, wire(params)) }
  patch (id, data, params) { return this.#declared('patch', params).patch(id, data, wire(params)) }
  remove (id, params) { return this.#declared('remove', params).remove(id, wire(params)) }

  #declared (method, { paginate, adapter } = {}) {
    const options = { ...this.options, ...adapter, ...(paginate === undefined ? {} : { paginate }) }
    const many = options.multi === true || (options.multi && options.multi.includes(method))
    if (options.paginate?.default) return this.remote(`${this.name}-${PAGES[options.paginate.default]}`)
    return this.remote(many ? `${this.name}-multi` : this.name)
  }
}

function wire (params) {
  return { query: params?.query ?? {} }
}
