"""The refresh strategy: a refresh token proves that a session still goes on, and is replaced by the next one.

Who is in an organization stays in it. Which one that is, the client may say; else the connection tells, or the session, if it
came about for an organization; and a refresh token of the control plane that is shown in another app goes on in that app's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from hooks.context import Params
from hooks.errors import NotAuthenticated
from hooks.tenant import Tenant
from services.authentication.entry import Entry, Held, named_in, not_allowed
from services.authentication.ledger import REFUSED, Ledger
from services.authentication.strategy import Proof
from services.authentication.tokens import Scope, Tokens

NAME = "refresh"


class RefreshStrategy:
    """Takes `{refreshToken, organization?, client_id?}`. Each token works once; using one again ends the session.

    With a `client_id` it must be the client's own.
    """

    def __init__(self, ledger: Ledger, tokens: Tokens, entry: Entry) -> None:
        self._ledger = ledger
        self._tokens = tokens
        self._entry = entry

    async def authenticate(self, data: Mapping[str, Any], params: Params) -> Proof:
        """The session with its new refresh token; the old one is used up only where all else is in order.

        Raises:
            BadRequest: the organization is none. NotAuthenticated: `Invalid refresh token`, whatever is wrong with it.
            Forbidden: the membership in the organization has ended, or its app is not served.
        """
        token = data.get("refreshToken")
        try:
            held = await self._entry.of_refresh_token(params.tenant, token if isinstance(token, str) else "")
            if held is None:
                raise NotAuthenticated(REFUSED)
        except NotAuthenticated as error:
            if NAME not in params.tenant.auth.strategies:
                raise not_allowed() from error
            # Also where its session has ended since it was looked up.
            raise NotAuthenticated(REFUSED) from error
        if "client_id" in data and data["client_id"] != held.session.client_id:
            raise NotAuthenticated(REFUSED)
        if NAME not in held.issuer.auth.strategies:
            raise not_allowed()
        scope, at = await self._destination(data, params, held)
        until = await self._until(held)
        at_issuer = replace(params, tenant=held.issuer)
        session = await self._ledger.rotate(at_issuer, token, self._tokens.lifetime(held.issuer), until=until)
        if scope is None and at.id == held.issuer.id == params.tenant.id:
            return Proof({"_id": session.user_id}, session=session)
        proof = await self._entry.open(held.issuer, session.user_id, session.id, scope, ends=session.expires_at, at=at)
        # A connection that stays in its tenant keeps its rooms.
        tenant = None if proof.tenant is None or proof.tenant.id == params.tenant.id else proof.tenant
        return replace(proof, session=session, tenant=tenant)

    async def _destination(self, data: Mapping[str, Any], params: Params, held: Held) -> tuple[Scope | None, Tenant]:
        """What the login is to be in, and where it is used if that is nothing."""
        issuer, session = held.issuer, held.session
        if "organization" in data:
            named, at = named_in(data), issuer
        elif (claims := _claims(params)) is not None and claims.get("sid") == session.id:
            named, at = claims.get("org_id"), params.tenant
        elif session.organization is not None:
            named, at = session.organization, issuer
        elif issuer.id != params.tenant.id:
            return await self._entry.standing_for(held, params.tenant), params.tenant
        else:
            return None, issuer
        if named is not None:
            return await self._entry.scope(issuer, session.user_id, named), at
        if at.id != issuer.id:
            await self._entry.check_manager(held, at)
        return None, at

    async def _until(self, held: Held) -> datetime | None:
        """When a session that came out of another one has to end."""
        if held.session.parent is None:
            return None
        parent = await self._ledger.find_one(held.issuer, {"sid": held.session.parent})
        if parent is None:
            raise NotAuthenticated(REFUSED)
        return parent.expires_at


def _claims(params: Params) -> Mapping[str, Any] | None:
    return None if params.connection is None else params.connection.claims
