"""The organization strategy: whoever is logged in goes on in one of the organizations that he is a member of, or in none.

It takes `{organization, accessToken or refreshToken}`; on a live connection or with a bearer token the present login will do.
Nothing is used up: whatever comes of it, the session and the tokens that there were stay good (TK-7, TK-13).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hooks.context import Params, Record
from hooks.errors import BadRequest, NotAuthenticated
from hooks.scopes import KEY_PREFIX
from hooks.tenant import Tenant
from services.authentication.api_keys import ApiKeys
from services.authentication.bearer import JwtStrategy
from services.authentication.entry import Entry, again, named_in
from services.authentication.ledger import PREFIX as REFRESH_PREFIX
from services.authentication.ledger import Ledger
from services.authentication.strategy import Proof
from services.authentication.tokens import Tokens

NAME = "organization"


@dataclass(frozen=True, slots=True)
class _Identity:
    """Who asks, and how long he may: by his session, or an API key."""

    issuer: Tenant
    user_id: str
    session: str | None
    ends: datetime | None
    user: Record
    more: Mapping[str, Any]


class OrganizationStrategy:
    """Answers with a token in the organization; with the organization null, with one in none."""

    def __init__(self, jwt: JwtStrategy, tokens: Tokens, ledger: Ledger, keys: ApiKeys, entry: Entry) -> None:
        self._jwt = jwt
        self._tokens = tokens
        self._ledger = ledger
        self._keys = keys
        self._entry = entry

    async def authenticate(self, data: Mapping[str, Any], params: Params) -> Proof:
        """See the module.

        Raises:
            BadRequest: no organization is named. NotAuthenticated: nobody is logged in, or what proves it is forged.
            Forbidden: with `data.code` one of `not_a_member`, `tenant_unavailable`, `reauthentication_required`.
        """
        named = named_in(data)
        try:
            identity = await self._identify(data, params)
        except NotAuthenticated as error:
            if isinstance(error.data, dict) and error.data.get("name") in ("TokenExpiredError", "SessionEndedError"):
                raise again() from error
            raise
        issuer, scope = identity.issuer, None
        if named is not None:
            scope = await self._entry.scope(issuer, identity.user_id, named, identity.more)
        elif identity.session is None:
            raise BadRequest("An API key is its own token in no organization")
        return await self._entry.open(issuer, identity.user_id, identity.session, scope, ends=identity.ends, at=issuer)

    async def _identify(self, data: Mapping[str, Any], params: Params) -> _Identity:
        token = data.get("accessToken", data.get("refreshToken"))
        if token is None:
            token = params.authentication.access_token if params.authentication else params.token
        if not token:
            raise NotAuthenticated("No access token")
        tenant = params.tenant
        if isinstance(token, str) and token.startswith(KEY_PREFIX):
            login, principal = await self._keys.verify(tenant, token)
            ends = login.payload.get("exp")
            until = None if ends is None else datetime.fromtimestamp(ends, tz=self._ledger.now().tzinfo)
            return _Identity(tenant, login.payload["sub"], None, until, principal, {"scopes": login.payload["scopes"]})
        if isinstance(token, str) and token.startswith(REFRESH_PREFIX):
            return await self._by_refresh_token(token, params)
        payload = await self._tokens.read(tenant, token)
        issuer = await self._jwt.issuer(tenant, payload)
        session = await self._ledger.find_one(issuer, payload)
        user = await self._jwt.user_of(issuer, payload, session)
        if "scopes" in payload:
            until = datetime.fromtimestamp(payload["exp"], tz=self._ledger.now().tzinfo)
            return _Identity(issuer, payload["sub"], None, until, user, {"scopes": payload["scopes"]})
        if session is None:
            raise again()
        return _Identity(issuer, payload["sub"], session.id, session.expires_at, user, {})

    async def _by_refresh_token(self, token: str, params: Params) -> _Identity:
        """The session of a refresh token, which is not used up."""
        held = await self._entry.of_refresh_token(params.tenant, token)
        if held is None:
            raise again()
        session = held.session
        return _Identity(held.issuer, session.user_id, session.id, session.expires_at, held.user, {})
