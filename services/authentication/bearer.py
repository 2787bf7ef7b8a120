"""The jwt strategy: an access token of this tenant proves who its user is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hooks.context import Authentication, Params, Record
from hooks.errors import NotAuthenticated
from services.authentication.directory import Directory
from services.authentication.strategy import Proof
from services.authentication.tokens import Tokens

LoggedIn = tuple[Authentication, Record]


class JwtStrategy:
    """Takes `{accessToken}`; the same token goes back, it is not renewed."""

    def __init__(self, directory: Directory, tokens: Tokens) -> None:
        self._directory = directory
        self._tokens = tokens

    async def authenticate(self, data: Mapping[str, Any], params: Params) -> Proof:
        """Verifies the token and loads its user.

        Raises:
            NotAuthenticated: there is no token, it is not valid here and now, or its user is gone.
        """
        token = data.get("accessToken")
        if not token:
            raise NotAuthenticated("No access token")
        login, user = await self.verify(token, params)
        return Proof(user, login)

    async def verify(self, token: object, params: Params) -> LoggedIn:
        """The login that a token stands for, inside the tenant of `params`, and its user.

        Raises:
            NotAuthenticated: the token is not valid here and now, or its user is gone.
        """
        payload = await self._tokens.verify(params.tenant, token)
        user = await self._directory.show(params, payload["sub"])
        if user is None:
            raise NotAuthenticated("The user of this access token does not exist any more")
        return Authentication("jwt", str(token), payload), user
