"""The page that a browser sees for a moment when a sign-in by another provider begins, and when it comes back.

Its script does what a redirect of the server cannot do without cookies: it keeps the proof that this browser has begun the
sign-in, in the tab's own storage, and shows it when the provider has sent the browser back. What comes back without it,
such as a link that somebody else has sent, ends here.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping

_SCRIPT = """
'use strict'
const ask = async (body, headers = {}) => {
  const answer = await fetch(location.pathname, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...headers },
    body: JSON.stringify({ search: location.search, ...body })
  })
  const found = await answer.json()
  if (!answer.ok) throw new Error(found.message)
  return found
}
const begin = async () => {
  const token = new URLSearchParams(location.hash.slice(1)).get('feathers_token')
  const begun = await ask({}, token ? { Authorization: `Bearer ${token}` } : {})
  sessionStorage.setItem(`sign-in ${begun.state}`, begun.proof)
  return begun.location
}
const end = async () => {
  const name = `sign-in ${new URLSearchParams(location.search).get('state')}`
  const proof = sessionStorage.getItem(name)
  sessionStorage.removeItem(name)
  return (await ask({ proof })).location
}
const go = location.pathname.endsWith('/callback') ? end : begin
go().then((next) => location.replace(next), (error) => {
  document.querySelector('p').textContent = error.message
})
"""

PAGE = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Sign in</title>
<p role="status">One moment …</p>
<noscript>Signing in needs JavaScript.</noscript>
<script>{_SCRIPT}</script>
</html>
"""

_HASH = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()

HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": f"default-src 'none'; script-src 'sha256-{_HASH}'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""The page runs its own script and asks its own server, and its address, which may hold a code, is told to nobody."""
