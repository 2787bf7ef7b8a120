"""Connections: all that are connected, by tenant, and their logins."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Literal, Protocol

from hooks.context import Authentication, Record
from hooks.errors import FeathersError
from hooks.tenant import Tenant
from server.connection import Connection
from server.engine import Gate
from services.channels import AUTHENTICATED, EVERYONE, Channels
from services.readers import Readers

_Key = tuple[str, str]
"""A tenant's id, and one that is its own."""
Ending = Literal["expired", "ended", "not_a_member"]
"""Why a login is over although its client has not logged out: `expired` is its token alone, which a refresh token renews;
`ended` is its session; `not_a_member` closes the connection too: its user has left the organization in which it was."""

PATIENCE = 10.0
MOST_REFUSALS = 200
"""Calls of one connection that may be refused within `PATIENCE` seconds."""
RUNNING_CALLS = 256
"""Calls of one tenant that run at once in this process; further ones wait in turn."""
LAST_CALLS = 5.0
"""Seconds that the calls of a tenant have to end that is taken out of service."""
LOOK = 0.02


class Counter(Protocol):
    """Counts the connections of tenants over all processes."""

    async def enter(self, connection: Connection, tenant: Tenant) -> bool:
        """Takes a place in a tenant, if it counts them; raises TooManyRequests where there is none."""
        ...

    def leave(self, connection: Connection, tenant: Tenant | None = None) -> None:
        """Gives it back: that in the connection's tenant, or another one."""
        ...


class Connections:
    """All connections of this process; also the `Sessions` that the authentication service logs in and out."""

    def __init__(
        self,
        channels: Channels,
        readers: Readers,
        *,
        tell: Callable[[Connection, Ending], None] | None = None,
        dismiss: Callable[[Connection, Tenant], None] = lambda connection, tenant: connection.socket.dismiss(),
    ) -> None:
        """`tell` hears of each connection that is logged out without having asked for it; `dismiss` disconnects a client."""
        self._channels = channels
        self._tell = tell
        self._dismiss = dismiss
        self._readers = readers
        self._gates: dict[str, Gate] = {}
        self._by_tenant: dict[str, dict[str, Connection]] = {}
        self._by_user: dict[_Key, dict[Connection, None]] = {}
        self._by_session: dict[_Key, dict[Connection, None]] = {}
        self.counter: Counter | None = None
        """Who is asked whether a connection may go on in another tenant."""
        self.newest: Callable[[Tenant], Tenant] = lambda tenant: tenant
        """The tenant as it is by now; raises Forbidden for one that is not served any more."""
        self._refusals: dict[Connection, tuple[float, int]] = {}

    def gate(self, tenant_id: str) -> Gate:
        """The bound on calls of one tenant that run at once, which its sockets and requests share."""
        gate = self._gates.get(tenant_id)
        if gate is None:
            gate = self._gates[tenant_id] = Gate(RUNNING_CALLS)
        return gate

    def add(self, connection: Connection) -> None:
        """Takes in an accepted connection."""
        self._by_tenant.setdefault(connection.tenant.id, {})[connection.id] = connection
        self._channels.join(connection, EVERYONE)

    def remove(self, connection: Connection) -> None:
        """Forgets a connection that is gone."""
        self._refusals.pop(connection, None)
        self._forget_login(connection)
        self._channels.leave_all(connection)
        own = self._by_tenant.get(connection.tenant.id, {})
        own.pop(connection.id, None)
        if not own:
            self._by_tenant.pop(connection.tenant.id, None)

    def of(self, tenant_id: str) -> Iterator[Connection]:
        """The connections of one tenant."""
        return iter([*self._by_tenant.get(tenant_id, {}).values()])

    def has(self, tenant_id: str) -> bool:
        """Whether somebody is connected to this tenant."""
        return tenant_id in self._by_tenant

    def count(self) -> int:
        """How many are connected."""
        return sum(len(own) for own in self._by_tenant.values())

    def count_of(self, tenant_id: str) -> int:
        """How many of one tenant are connected."""
        return len(self._by_tenant.get(tenant_id, ()))

    def refresh(self, tenant: Tenant) -> None:
        """Gives the tenant's connections its new snapshot.

        Those of an app that is out of service are told so and dismissed: their clients do not come back by themselves.
        """
        for connection in self.of(tenant.id):
            connection.tenant = tenant
            if not tenant.is_serving:
                self.remove(connection)
                self._dismiss(connection, tenant)

    async def close(self, tenant: Tenant) -> None:
        """Returns when nobody is connected to a tenant that is out of service, and its calls have ended, or had their time."""
        if tenant.is_serving:
            return
        self.refresh(tenant)
        gate, clock = self._gates.get(tenant.id), asyncio.get_running_loop().time
        deadline = clock() + LAST_CALLS
        while gate is not None and gate.running and clock() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(LOOK)

    def note_refusal(self, connection: Connection) -> None:
        """A call was refused because too many came: a client that goes on all the same is closed when it is answered."""
        if not self._has(connection):
            # Its calls may end after it: nobody would ever forget it again.
            return
        now = time.monotonic()
        since, count = self._refusals.get(connection, (now, 0))
        if now - since > PATIENCE:
            since, count = now, 0
        self._refusals[connection] = since, count + 1
        if count + 1 >= MOST_REFUSALS:
            connection.socket.retire()

    async def login(
        self, connection: Connection, authentication: Authentication, user: Record | None, tenant: Tenant
    ) -> None:
        """Makes the connection's later calls those of the user, until the token expires.

        Nothing happens when the connection has gone in the meantime, or has gone on in another tenant.
        """
        if connection.tenant.id == tenant.id:
            self._log_in(connection, authentication, user)

    def _log_in(self, connection: Connection, authentication: Authentication, user: Record | None) -> None:
        self._forget_login(connection)
        if not self._has(connection):
            return
        connection.authentication = authentication
        connection.claims = authentication.payload
        connection.user = user
        for index, key in self._places(connection):
            index.setdefault(key, {})[connection] = None
        if hears_all(authentication):
            self._channels.join(connection, AUTHENTICATED)
            self._readers.enter(connection)
        expires = authentication.payload.get("exp")
        if expires is not None:
            self._arm(connection, float(expires))

    async def switch(
        self, connection: Connection, authentication: Authentication, user: Record | None, tenant: Tenant
    ) -> None:
        """Makes the connection one of the tenant, logged in there, in one step of the loop (TK-8).

        It leaves every channel and count of the old tenant before it is in the new one. Calls that run keep the identity
        they began with; those that wait begin with the new one.

        Raises:
            TooManyRequests: the tenant has no room for it; it stays where it is.
        """
        before, counter = connection.tenant, self.counter
        if tenant.id == before.id or counter is None:
            self._move(connection, authentication, user, self.newest(tenant))
            return
        await counter.enter(connection, tenant)
        try:
            # Somebody may have switched the tenant off, or the connection may have gone, while this was asked.
            tenant = self.newest(tenant)
            is_there = connection.tenant.id == before.id and self._has(connection)
        except FeathersError:
            counter.leave(connection, tenant)
            raise
        if is_there:
            counter.leave(connection)
            self._move(connection, authentication, user, tenant)
        elif connection.tenant.id != tenant.id or not self._has(connection):
            counter.leave(connection, tenant)

    def _has(self, connection: Connection) -> bool:
        return connection.id in self._by_tenant.get(connection.tenant.id, {})

    def _move(
        self, connection: Connection, authentication: Authentication, user: Record | None, tenant: Tenant
    ) -> None:
        """The step itself: nothing in it waits."""
        if not self._has(connection):
            return
        self.remove(connection)
        connection.tenant = tenant
        self.add(connection)
        self._log_in(connection, authentication, user)
        connection.socket.move(self.gate(tenant.id))

    async def logout(self, connection: Connection, login: Authentication | None = None) -> None:
        """Makes the connection a stranger's: it leaves all channels but that of everyone; the socket stays open.

        With `login` only if that is still the connection's: it may have a newer one by now.
        """
        held = connection.authentication
        if login is None or (held is not None and held.access_token == login.access_token):
            self._leave(connection)

    def expire(self, connection: Connection) -> None:
        """Logs out a connection whose access token is not good any more."""
        self.end(connection, "expired")

    async def end_session(self, tenant_id: str, session_id: str) -> None:
        """Logs out every connection of the session."""
        for connection in self.of_session(tenant_id, session_id):
            self.end(connection, "ended")

    async def end_user(self, tenant_id: str, user_id: str, *, but: str | None = None) -> None:
        """Logs out every connection of the user, except those of the session that `but` names."""
        for connection in self.of_user(tenant_id, user_id):
            if but is None or session_of(connection) != but:
                self.end(connection, "ended")

    def of_user(self, tenant_id: str, user_id: str) -> list[Connection]:
        """The connections that are logged in as this user of the tenant, in whichever tenant they are."""
        return [*self._by_user.get((tenant_id, user_id), ())]

    def of_session(self, tenant_id: str, session_id: str) -> list[Connection]:
        """The connections whose access token belongs to this session."""
        return [*self._by_session.get((tenant_id, session_id), ())]

    def issued_by(self, tenant_id: str) -> list[Connection]:
        """The connections whose login a tenant has issued, in whichever tenant they are."""
        return [one for one in self.logged_in() if one.authentication and _issuer_of(one) == tenant_id]

    def concerning(self, tenant_id: str) -> list[Connection]:
        """The connections that are logged in within a tenant, or by it."""
        return [one for one in self.logged_in() if tenant_id in (one.tenant.id, _issuer_of(one))]

    def logged_in(self) -> list[Connection]:
        """All connections that are logged in."""
        return [*{connection: None for members in self._by_user.values() for connection in members}]

    def renew(self, connection: Connection, user: Record) -> None:
        """Gives a connection that is logged in what its user is now."""
        self._readers.leave(connection)
        connection.user = user
        if AUTHENTICATED in connection.channels:
            self._readers.enter(connection)

    def dismiss(self, connection: Connection) -> None:
        """Logs out and disconnects a client whose user has nothing to do any more where it is."""
        self.end(connection, "not_a_member")
        connection.socket.dismiss()

    def _arm(self, connection: Connection, expires: float) -> None:
        # The loop's timers are good for some weeks; a token that lives longer is looked at again by then.
        delay = min(expires - time.time(), 30 * 86_400.0)
        connection.expiry = asyncio.get_running_loop().call_later(delay, self._expire, connection, expires)

    def _expire(self, connection: Connection, expires: float) -> None:
        if expires > time.time():
            self._arm(connection, expires)
        else:
            self.expire(connection)

    def end(self, connection: Connection, reason: Ending) -> None:
        """Logs out a connection, and tells it why."""
        claims = connection.claims if reason == "expired" else None
        self._leave(connection)
        connection.claims = claims
        if self._tell is not None:
            self._tell(connection, reason)

    def _leave(self, connection: Connection) -> None:
        self._forget_login(connection)
        self._channels.leave_all(connection)
        self._channels.join(connection, EVERYONE)

    def _places(self, connection: Connection) -> Iterator[tuple[dict[_Key, dict[Connection, None]], _Key]]:
        """Where a connection is found by its login: with the tenant that has issued it, wherever it takes effect."""
        login, session = connection.authentication, session_of(connection)
        if login is None:
            return
        issuer_id = _issuer_of(connection)
        if connection.user is not None:
            yield self._by_user, (issuer_id, str(login.payload.get("sub", connection.user["_id"])))
        if session is not None:
            yield self._by_session, (issuer_id, session)

    def _forget_login(self, connection: Connection) -> None:
        self._readers.leave(connection)
        for index, key in self._places(connection):
            members = index.get(key, {})
            members.pop(connection, None)
            if not members:
                index.pop(key, None)
        if connection.expiry is not None:
            connection.expiry.cancel()
        connection.expiry = None
        connection.authentication = None
        connection.claims = None
        connection.user = None


def _issuer_of(connection: Connection) -> str:
    login = connection.authentication
    return connection.tenant.id if login is None else str(login.payload.get("app_id", connection.tenant.id))


def session_of(connection: Connection) -> str | None:
    """The session of the connection's access token, if it has one."""
    login = connection.authentication
    session = None if login is None else login.payload.get("sid")
    return session if isinstance(session, str) else None


def hears_all(login: Authentication) -> bool:
    """Whether a login hears what is for all who are logged in: users do, and API keys whose scope is everything."""
    return "*" in login.payload.get("scopes", "*")
