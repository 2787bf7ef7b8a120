"""The authentication service: `create` logs in, `remove` logs out, for all tenants, each by its own users and keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hooks.context import Authentication, Caller, Params, Record
from hooks.errors import NotAuthenticated
from services.authentication.bearer import JwtStrategy, LoggedIn
from services.authentication.directory import Directory
from services.authentication.local import LocalStrategy
from services.authentication.passwords import Passwords
from services.authentication.sessions import NoSessions, Sessions
from services.authentication.strategy import Strategy
from services.authentication.tokens import Tokens
from services.base import Service

AUTHENTICATION_RULES: Mapping[str, str] = {"create": "public", "remove": "authenticated"}
"""The rules under which the service is to be registered."""


class AuthenticationService(Service):
    """Answers with `{accessToken, authentication: {strategy, payload, ...}, user}`."""

    def __init__(
        self,
        app: Caller,
        tokens: Tokens,
        passwords: Passwords,
        *,
        sessions: Sessions | None = None,
        users: str = "users",
    ) -> None:
        """`sessions` hears of logins and logouts on live connections; `users` is the path of the users service."""
        directory = Directory(app, users)
        self._tokens = tokens
        self._sessions = sessions or NoSessions()
        self._jwt = JwtStrategy(directory, tokens)
        self._strategies: dict[str, Strategy] = {"local": LocalStrategy(directory, passwords), "jwt": self._jwt}

    def register(self, name: str, strategy: Strategy) -> None:
        """Adds a strategy, or replaces the one of that name."""
        self._strategies[name] = strategy

    async def create(self, data: Any, params: Params) -> Record:
        """Logs in with one of the strategies; a failure leaves an earlier login of the connection in place.

        Raises:
            NotAuthenticated: no such strategy, or it refuses. TooManyRequests: too many log in at once.
        """
        name = data.get("strategy") if isinstance(data, Mapping) else None
        if not name:
            raise NotAuthenticated("Invalid authentication information (no `strategy` set)")
        strategy = self._strategies.get(name) if isinstance(name, str) else None
        if strategy is None:
            raise NotAuthenticated("Invalid authentication information (strategy not allowed in authStrategies)")
        proof = await strategy.authenticate(data, params)
        login = proof.login
        if login is not None:
            answer = _answer(login, proof.user)
        else:
            token, payload = await self._tokens.issue(params.tenant, str(proof.user["_id"]))
            login = Authentication("jwt", token, payload)
            shown = {"strategy": name, "payload": dict(payload)}
            answer = {"accessToken": token, "authentication": shown, "user": proof.user}
        if params.connection is not None:
            await self._sessions.login(params.connection, login, proof.user)
        return answer

    async def remove(self, id: Any, params: Params) -> Record:
        """Logs out; `id` is null or the access token of the login. A token goes on being valid until it expires.

        Raises:
            NotAuthenticated: there is no login, or `id` is another token; that leaves the login in place.
        """
        token = _token(params)
        if id is not None and id != token:
            raise NotAuthenticated("Invalid access token")
        try:
            login, user = await self._jwt.verify(token, params)
        except NotAuthenticated:
            # Expired, or the user is gone: such a login must not outlive the wish to end it either.
            await self._log_out(params)
            raise
        await self._log_out(params)
        return _answer(login, user)

    async def authenticate(self, params: Params) -> None:
        """Verifies the token of the connection or request and fills in `user`, `authentication` and `authenticated`.

        Raises:
            NotAuthenticated: there is no token, it is not valid here and now, or its user is gone.
        """
        params.authentication, params.user = await self._jwt.verify(_token(params), params)
        params.authenticated = True

    async def verify(self, params: Params, token: str) -> LoggedIn:
        """The login that a token stands for in the tenant of `params`: for handshakes and for live connections.

        Raises:
            NotAuthenticated: it is not valid here and now, or its user is gone.
        """
        return await self._jwt.verify(token, params)

    async def _log_out(self, params: Params) -> None:
        if params.connection is not None:
            await self._sessions.logout(params.connection)


def _token(params: Params) -> str:
    token = params.authentication.access_token if params.authentication else params.token
    if not token:
        raise NotAuthenticated
    return token


def _answer(login: Authentication, user: Record) -> Record:
    return {
        "accessToken": login.access_token,
        "authentication": {
            "strategy": login.strategy,
            "accessToken": login.access_token,
            "payload": dict(login.payload),
        },
        "user": user,
    }
