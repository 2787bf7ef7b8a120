"""Authorization: a browser that is signed in to an app takes a code to another page of it, for an organization or none (TK-7).

The strategy `authorization_code` makes a login of the code: a session of the client's own, which comes out of the browser's,
lasts no longer than that, and ends with it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hooks.context import Params
from hooks.errors import FeathersError, Forbidden, NotAuthenticated, NotFound
from hooks.tenant import Tenant
from services.authentication.codes import Codes, Granted, Wanted
from services.authentication.entry import Entry, again
from services.authentication.ledger import Ledger
from services.authentication.refresh import NAME as REFRESH
from services.authentication.strategy import Proof

NAME = "authorization_code"
REFUSED = "The code is not valid, or is another client's, was used, or has expired: begin again"

Callbacks = Callable[[Tenant, str], Awaitable[Sequence[str] | None]]
"""The addresses to which a client of a tenant may be sent; None for a client that there is not."""


class Authorization:
    """Grants codes to browsers, and takes them back from clients."""

    def __init__(self, codes: Codes, ledger: Ledger, entry: Entry, callbacks: Callbacks) -> None:
        self._codes = codes
        self._ledger = ledger
        self._entry = entry
        self.callbacks = callbacks

    async def prove(self, tenant: Tenant, login: Mapping[str, Any]) -> str:
        """What a browser is to keep, by the claims of a login of the tenant that was verified.

        Raises:
            Forbidden: the login is none of a user of the tenant by a session of his own. NotAuthenticated: it has ended.
        """
        sid = login.get("sid")
        if login.get("app_id") != tenant.id or not isinstance(sid, str):
            raise Forbidden("Only a session of a user of this app can be kept by a browser")
        return await self._ledger.prove(tenant, sid)

    async def grant(self, tenant: Tenant, proof: str | None, wanted: Wanted) -> str:
        """A code for what a client wants, whose client and address were checked, by what the browser has kept.

        Raises:
            Forbidden: with `data.code` `reauthentication_required`, `not_a_member` or `tenant_unavailable`.
            TooManyRequests: too many codes were asked for.
        """
        session = None if proof is None else await self._ledger.of_browser(tenant, proof)
        if session is None:
            raise again()
        try:
            await self._entry.held(tenant, session)
        except NotAuthenticated as error:
            raise again() from error
        if wanted.organization is not None:
            scope = await self._entry.scope(tenant, session.user_id, wanted.organization)
            wanted = replace(wanted, organization=scope.org_id)
        return await self._codes.issue(tenant, session.id, wanted)

    async def authenticate(self, data: Mapping[str, Any], params: Params) -> Proof:
        """The strategy: takes `{code, code_verifier, client_id, redirect_uri}`.

        Raises:
            NotAuthenticated: the code is not good for that. Forbidden: the membership in the organization has ended, or
            its app is not served.
        """
        fields = [data.get(name) for name in ("code", "client_id", "redirect_uri", "code_verifier")]
        if not all(isinstance(field, str) for field in fields):
            raise NotAuthenticated(REFUSED)
        code, client, redirect_uri, verifier = map(str, fields)
        tenant = params.tenant
        granted = await self._codes.take(tenant, code, client, redirect_uri, verifier)
        if granted is None:
            await self._revoke(tenant, await self._codes.note_reuse(tenant, code))
            raise NotAuthenticated(REFUSED)
        if redirect_uri not in (await self.callbacks(tenant, client) or ()):
            raise NotAuthenticated(REFUSED)
        try:
            proof = await self._log_in(params, granted, client)
            # Somebody may have shown it again while this was done.
            if await self._codes.is_reused(tenant, code):
                raise NotAuthenticated(REFUSED)
        except FeathersError:
            await self._revoke(tenant, granted.child)
            raise
        return proof

    async def _log_in(self, params: Params, granted: Granted, client: str) -> Proof:
        tenant = params.tenant
        parent = await self._ledger.find_one(tenant, {"sid": granted.session})
        if parent is None:
            raise NotAuthenticated(REFUSED)
        await self._entry.held(tenant, parent)
        scope = None
        if granted.organization is not None:
            scope = await self._entry.scope(tenant, parent.user_id, granted.organization)
        session = await self._ledger.begin_within(
            params,
            parent,
            granted.child,
            organization=granted.organization,
            client=client,
            keep=REFRESH in tenant.auth.strategies,
        )
        proof = await self._entry.open(tenant, session.user_id, session.id, scope, ends=session.expires_at, at=tenant)
        return replace(proof, session=session, tenant=None if scope is None else proof.tenant)

    async def _revoke(self, tenant: Tenant, session: str | None) -> None:
        """Ends the session that has come of a code, if one has."""
        if session is not None:
            with contextlib.suppress(NotFound):
                await self._ledger.end(tenant, session)
