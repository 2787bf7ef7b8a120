"""Connections: all that are connected, by tenant, and their logins."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from hooks.context import Authentication, Record
from hooks.tenant import Tenant
from server.connection import Connection
from services.channels import AUTHENTICATED, EVERYONE, Channels


class Connections:
    """All connections of this process; also the `Sessions` that the authentication service logs in and out."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        self._by_tenant: dict[str, dict[str, Connection]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def add(self, connection: Connection) -> None:
        """Takes in an accepted connection."""
        self._by_tenant.setdefault(connection.tenant.id, {})[connection.id] = connection
        self._channels.join(connection, EVERYONE)

    def remove(self, connection: Connection) -> None:
        """Forgets a connection that is gone."""
        self._forget_login(connection)
        self._channels.leave_all(connection)
        own = self._by_tenant.get(connection.tenant.id, {})
        own.pop(connection.id, None)
        if not own:
            self._by_tenant.pop(connection.tenant.id, None)

    def of(self, tenant_id: str) -> Iterator[Connection]:
        """The connections of one tenant."""
        return iter([*self._by_tenant.get(tenant_id, {}).values()])

    def count(self) -> int:
        """How many are connected."""
        return sum(len(own) for own in self._by_tenant.values())

    def refresh(self, tenant: Tenant) -> None:
        """Gives the tenant's connections its new snapshot.

        Those of an app that is not ready any more are closed: their clients come back, and are refused with the reason.
        """
        for connection in self.of(tenant.id):
            connection.tenant = tenant
            if tenant.status != "ready":
                closing = asyncio.ensure_future(connection.socket.close())
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)

    async def login(self, connection: Connection, authentication: Authentication, user: Record | None) -> None:
        """Makes the connection's later calls those of the user, until the token expires.

        Nothing happens when the connection has gone in the meantime.
        """
        self._forget_login(connection)
        if connection.id not in self._by_tenant.get(connection.tenant.id, {}):
            return
        connection.authentication = authentication
        connection.user = user
        self._channels.join(connection, AUTHENTICATED)
        self._arm(connection, float(authentication.payload["exp"]))

    async def logout(self, connection: Connection) -> None:
        """Makes the connection a stranger's: it leaves all channels but that of everyone; the socket stays open."""
        self._leave(connection)

    def update_user(self, tenant_id: str, user_id: str, user: Record | None) -> list[Connection]:
        """Gives the user's connections the new record; those of a removed user (None) are returned to be logged out."""
        gone = []
        for connection in self.of(tenant_id):
            if connection.user is not None and str(connection.user["_id"]) == user_id:
                if user is None:
                    gone.append(connection)
                else:
                    connection.user = user
        return gone

    def _arm(self, connection: Connection, expires: float) -> None:
        # The loop's timers are good for some weeks; a token that lives longer is looked at again by then.
        delay = min(expires - time.time(), 30 * 86_400.0)
        connection.expiry = asyncio.get_running_loop().call_later(delay, self._expire, connection, expires)

    def _expire(self, connection: Connection, expires: float) -> None:
        if expires > time.time():
            self._arm(connection, expires)
        else:
            self._leave(connection)

    def _leave(self, connection: Connection) -> None:
        self._forget_login(connection)
        self._channels.leave_all(connection)
        self._channels.join(connection, EVERYONE)

    def _forget_login(self, connection: Connection) -> None:
        if connection.expiry is not None:
            connection.expiry.cancel()
        connection.expiry = None
        connection.authentication = None
        connection.user = None
