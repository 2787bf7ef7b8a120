"""The authentication service: `create` logs in, `remove` logs out, for all tenants, each by its own users and keys."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any

from hooks.context import Authentication, Caller, Params, Record
from hooks.errors import Forbidden, NotAuthenticated, NotFound
from hooks.scopes import PRINCIPAL_PREFIX
from hooks.tenant import Tenant
from services.authentication.anonymous import AnonymousStrategy
from services.authentication.api_keys import ApiKeys
from services.authentication.authorization import NAME as CODE
from services.authentication.authorization import Authorization
from services.authentication.bearer import TRIES, JwtStrategy
from services.authentication.directory import Directory
from services.authentication.entry import Entry, not_allowed
from services.authentication.external import ExternalStrategy
from services.authentication.ledger import Ledger, Session, ended, is_valid
from services.authentication.local import LocalStrategy
from services.authentication.oauth import OAuthStrategy
from services.authentication.organization import NAME as ORGANIZATION
from services.authentication.organization import OrganizationStrategy
from services.authentication.passwords import Passwords
from services.authentication.principals import LoggedIn, OwnPrincipals, Principals
from services.authentication.refresh import NAME as REFRESH
from services.authentication.refresh import RefreshStrategy
from services.authentication.sessions import NoSessions, Sessions
from services.authentication.strategy import Proof, Strategy
from services.authentication.tokens import Issuers, Tokens
from services.base import Service

AUTHENTICATION_RULES: Mapping[str, str] = {"create": "public", "remove": "authenticated"}
"""The rules under which the service is to be registered."""
CONTINUING = frozenset({ORGANIZATION, REFRESH, CODE})
"""Strategies by which a login goes on that there is already."""


class AuthenticationService(Service):
    """Answers with `{accessToken, authentication: {strategy, payload, ...}, user}`, and `refreshToken` where one is made.

    Each login but by an access token begins a session, which ends with its access token. One that carries `refresh: true`
    goes on for as long as its refresh tokens are used.
    """

    def __init__(
        self,
        app: Caller,
        tokens: Tokens,
        passwords: Passwords,
        ledger: Ledger,
        keys: ApiKeys,
        *,
        authorization: Callable[[Entry], Authorization] | None = None,
        external: ExternalStrategy | None = None,
        oauth: OAuthStrategy | None = None,
        sessions: Sessions | None = None,
        principals: Principals | None = None,
        issuers: Issuers | None = None,
        control_plane: Callable[[], Awaitable[Tenant | None]] | None = None,
        users: str = "users",
    ) -> None:
        """`sessions` hears of logins and logouts on live connections; `users` is the path of the users service.

        `principals` finds permissions and memberships, `issuers` other tenants that may have issued a token.
        `control_plane` tells the one whose people go on in others, `authorization` makes what takes authorization codes.
        """
        self._directory = Directory(app, users)
        self._tokens = tokens
        self._ledger = ledger
        self._sessions = sessions or NoSessions()
        self._principals = principals or OwnPrincipals()
        self._jwt = JwtStrategy(self._directory, tokens, ledger, keys, principals=self._principals, issuers=issuers)
        self.entry = Entry(self._jwt, tokens, ledger, self._principals, control_plane)
        self._strategies: dict[str, Strategy] = {
            "local": LocalStrategy(self._directory, passwords),
            "jwt": self._jwt,
            REFRESH: RefreshStrategy(ledger, tokens, self.entry),
            "anonymous": AnonymousStrategy(self._directory),
            "api_key": keys,
            ORGANIZATION: OrganizationStrategy(self._jwt, tokens, ledger, keys, self.entry),
        }
        self.authorization = None if authorization is None else authorization(self.entry)
        if self.authorization is not None:
            self._strategies[CODE] = self.authorization
        if external is not None:
            self._strategies["external"] = external
        if oauth is not None:
            self._strategies["oauth"] = oauth
        self._own = frozenset(self._strategies)
        # To go on is no way of logging in: it takes a login. Whether one may be renewed, its issuer says.
        self._listed = self._own - CONTINUING

    def register(self, name: str, strategy: Strategy) -> None:
        """Adds a strategy, or replaces the one of that name. Roost's own ones are for tenants that list them alone."""
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
        if strategy is None or (name in self._listed and name not in params.tenant.auth.strategies):
            raise not_allowed()
        began = self._ledger.now()
        proof = await strategy.authenticate(data, params)
        if proof.login is not None:
            if self._ledger.has_ended(proof.login.payload):
                raise ended()
            if params.connection is not None:
                principal = proof.user if proof.principal is None else proof.principal
                if proof.tenant is None:
                    await self._sessions.login(params.connection, proof.login, principal, params.tenant)
                else:
                    await self._switch(params.connection, proof.login, principal, proof.tenant)
            return _answer(proof.login, proof.user, name, proof.session)
        session = proof.session
        if session is None:
            keep = data.get("refresh") is True and "refresh" in params.tenant.auth.strategies
            session = await self._begin(proof, params, began, keep=keep)
        token, payload = await self._tokens.issue(params.tenant, session.user_id, session.id)
        login = Authentication("jwt", token, payload)
        # The user last: a live connection hears of what changes from its login on, so nothing may wait in between.
        user, principal = await self._admit(proof, params, session, is_own=name in self._own)
        # The session may have ended since: then the answer comes as if it had come before, and logs nothing in.
        if params.connection is not None and not self._ledger.has_ended(payload):
            await self._sessions.login(params.connection, login, principal, params.tenant)
        shown = {"strategy": name, "payload": dict(payload)}
        answer: Record = {"accessToken": token, "authentication": shown, "user": user}
        if session.refresh_token is not None:
            answer["refreshToken"] = session.refresh_token
        return answer

    async def remove(self, id: Any, params: Params) -> Record:
        """Logs out and ends the login's session; `id` is null or the access token of the login.

        Raises:
            NotAuthenticated: there is no login, or `id` is another token; that leaves the login in place.
        """
        token = _token(params)
        if id is not None and id != token:
            raise NotAuthenticated("Invalid access token")
        try:
            found = await self._jwt.verify(token, params)
        except (NotAuthenticated, Forbidden):
            # Expired, or the user is gone: such a login must not outlive the wish to end it either.
            await self._log_out(params, params.authentication)
            raise
        await self._log_out(params, found.login)
        return _answer(found.login, found.user)

    async def authenticate(self, params: Params) -> None:
        """Verifies the token of the connection or request and fills in `user`, `authentication` and `authenticated`.

        Raises:
            NotAuthenticated: there is no token, it is not valid here and now, or its user is gone.
        """
        found = await self._jwt.verify(_token(params), params)
        params.authentication, params.user = found.login, found.principal
        params.authenticated = True

    async def verify(self, params: Params, token: str, *, live: bool = False) -> LoggedIn:
        """The login that a token stands for in the tenant of `params`: for handshakes and, `live`, for connections.

        Raises:
            NotAuthenticated: it is not valid here and now, or its user is gone. Forbidden: it is good, but not here.
        """
        return await self._jwt.verify(token, params, live=live)

    async def _switch(self, connection: Any, login: Authentication, principal: Record, tenant: Tenant) -> None:
        """Takes a connection into a tenant. From then on it hears of what changes; what has changed before is looked at."""
        await self._sessions.switch(connection, login, principal, tenant)
        try:
            await self._jwt.verify(login.access_token, Params(tenant=tenant))
        except (NotAuthenticated, Forbidden):
            await self._sessions.logout(connection, login)
            raise

    async def _begin(self, proof: Proof, params: Params, began: datetime, *, keep: bool) -> Session:
        user_id = str(proof.user["_id"])
        if user_id.startswith(PRINCIPAL_PREFIX):
            raise NotAuthenticated("Invalid login")
        return await self._ledger.begin(params, user_id, began, self._tokens.lifetime(params.tenant), keep=keep)

    async def _admit(self, proof: Proof, params: Params, session: Session, *, is_own: bool) -> tuple[Record, Record]:
        """The session's user and how rules see him, looked at after the session was kept: whoever ends all sessions has
        met one of the two.
        """
        claims = {"sub": session.user_id, "app_id": params.tenant.id}
        for _ in range(TRIES):
            grant = await self._principals.grant(params.tenant, params.tenant, claims)
            user = await self._directory.load(params, session.user_id)
            if not grant.is_stale:
                break
        if user is None and not is_own:
            # A strategy of somebody's own may know people who are no records of the users service.
            return proof.user, proof.user
        if user is None or not is_valid(session, user[0]):
            with contextlib.suppress(NotFound):
                await self._ledger.end(params.tenant, session.id, session.user_id)
            raise ended()
        return user[1], grant.principal(user[1])

    async def _log_out(self, params: Params, login: Authentication | None) -> None:
        if params.connection is not None:
            await self._sessions.logout(params.connection)
        session = login.payload.get("sid") if login is not None else None
        if login is not None and isinstance(session, str):
            issuer = await self._jwt.issuer(params.tenant, login.payload)
            with contextlib.suppress(NotFound):
                await self._ledger.end(issuer, session, login.payload["sub"])


def _token(params: Params) -> str:
    token = params.authentication.access_token if params.authentication else params.token
    if not token:
        raise NotAuthenticated
    return token


def _answer(login: Authentication, user: Record, strategy: str | None = None, session: Session | None = None) -> Record:
    shown = strategy if strategy in CONTINUING else login.strategy
    token = None if session is None else session.refresh_token
    return {
        "accessToken": login.access_token,
        "authentication": {
            "strategy": shown,
            "accessToken": login.access_token,
            "payload": dict(login.payload),
        },
        "user": user,
        **({} if token is None else {"refreshToken": token}),
    }
