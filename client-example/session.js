/**
 * A login that outlasts its access token, for the official client:
 *
 *     client.configure(feathers.authentication({ Authentication: lasting(feathers.authentication), storage }))
 *
 * The client keeps the access token, this the refresh token beside it. `client.reAuthenticate()` comes back with the
 * access token, or takes a new one with the refresh token: no password is kept or asked for. Calls wait for it.
 */
export const lasting = ({ AuthenticationClient }) => class extends AuthenticationClient {
  get refreshKey () {
    return `${this.options.storageKey}-refresh`
  }

  handleSocket (socket) {
    socket.on('disconnect', () => {
      const wasIn = this.authenticated
      this.returning = null // it will not be answered any more
      this.reset()
      // Goes out when the line is back. How it ended, one learns by calling `reAuthenticate` after each connect.
      if (wasIn) this.reAuthenticate().catch(() => {})
    })
    socket.on('authentication removed', ({ reason }) => reason === 'ended' ? this.forget() : this.reset())
  }

  async authenticate (login) {
    if (!login) return this.reAuthenticate()
    const answer = super.authenticate({ ...login, refresh: true })
    if (this.returning) this.app.set('authentication', this.returning)
    const result = await answer
    // Every refresh token works once: the next one takes its place.
    if (result.refreshToken) await this.storage.setItem(this.refreshKey, result.refreshToken)
    return result
  }

  /** One at a time: a refresh token that is used twice ends its session, for a thief could have it. */
  reAuthenticate (force) {
    if (this.returning) return this.returning
    const returning = this.comeBack(force).finally(() => {
      if (this.returning === returning) this.returning = null
    })
    this.returning = returning
    return returning
  }

  async comeBack (force) {
    try {
      return await super.reAuthenticate(force)
    } catch (error) {
      const refreshToken = error.code === 401 && await this.storage.getItem(this.refreshKey)
      if (!refreshToken) throw error
      return await this.authenticate({ strategy: 'refresh', refreshToken }).catch(async (refusal) => {
        if (refusal.code === 401) await this.forget()
        throw refusal
      })
    }
  }

  async logout () {
    const result = await super.logout()
    await this.forget()
    return result
  }

  async forget () {
    await this.removeAccessToken()
    await this.storage.removeItem(this.refreshKey)
    await this.reset()
  }
}
