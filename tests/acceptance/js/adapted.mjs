/**
 * A service as the adapter suite expects it, in the same process with `options` that can be changed and `params` that
 * override them. Neither travels: each call goes to the remote service that was declared with them over the same records.
 */
export class AdaptedService {
  options = { multi: false, paginate: false }

  constructor (remote, name, id) {
    this.remote = remote
    this.name = name
    this.id = id
  }

  find (params) { return this.#twin('find', params).find(wire(params)) }
  get (id, params) { return this.#twin('get', params).get(id, wire(params)) }
  create (data, params) { return this.#twin('create', params).create(data, wire(params)) }
  update (id, data, params) { return this.#twin('update', params).update(id, data, wire(params)) }
  patch (id, data, params) { return this.#twin('patch', params).patch(id, data, wire(params)) }
  remove (id, params) { return this.#twin('remove', params).remove(id, wire(params)) }

  /** The page's size counts more than `multi`: what has large pages takes many records too. */
  #twin (method, { paginate = this.options.paginate, adapter } = {}) {
    const options = { multi: this.options.multi, paginate, ...adapter }
    if (options.paginate?.default) return this.remote(`${this.name}-page${options.paginate.default}`)
    const many = options.multi === true || (options.multi && options.multi.includes(method))
    return this.remote(many ? `${this.name}-multi` : this.name)
  }
}

function wire (params) {
  return { query: params?.query ?? {} }
}
