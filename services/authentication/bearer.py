"""The jwt strategy: an access token of this tenant proves who its user is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hooks.context import Authentication, Params, Record
from hooks.errors import NotAuthenticated
from hooks.scopes import KEY_PREFIX, PRINCIPAL_PREFIX
from services.authentication.api_keys import ApiKeys
from services.authentication.directory import Directory
from services.authentication.ledger import Ledger
from services.authentication.strategy import Proof
from services.authentication.tokens import Tokens, refusal

LoggedIn = tuple[Authentication, Record]


class JwtStrategy:
    """Takes `{accessToken}`; the same token goes back, it is not renewed. An API key is its own access token."""

    def __init__(self, directory: Directory, tokens: Tokens, ledger: Ledger, keys: ApiKeys) -> None:
        self._directory = directory
        self._tokens = tokens
        self._ledger = ledger
        self._keys = keys

    async def authenticate(self, data: Mapping[str, Any], params: Params) -> Proof:
        """Verifies the token and loads its user.

        Raises:
            NotAuthenticated: there is no token, it is not valid here and now, or its user or session is gone.
        """
        token = data.get("accessToken")
        if not token:
            raise NotAuthenticated("No access token")
        login, user = await self.verify(token, params)
        return Proof(user, login)

    async def verify(self, token: object, params: Params) -> LoggedIn:
        """The login that a token stands for, inside the tenant of `params`, and its user.

        Raises:
            NotAuthenticated: the token is not valid here and now, or its user or session is gone.
        """
        if isinstance(token, str) and token.startswith(KEY_PREFIX):
            return await self._keys.verify(params.tenant, token)
        payload = await self._tokens.verify(params.tenant, token)
        if payload["sub"].startswith(PRINCIPAL_PREFIX):
            raise refusal("invalid token")
        session = await self._ledger.find_one(params.tenant, payload)
        # The user last: a live connection hears of what changes from its login on, so nothing may wait in between.
        user = await self._directory.load(params, payload["sub"])
        if user is None:
            raise NotAuthenticated("The user of this access token does not exist any more")
        whole, shown = user
        self._ledger.check(params.tenant, payload, session, whole)
        return Authentication("jwt", str(token), payload), shown
