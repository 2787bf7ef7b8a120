"""A connection: one socket, its tenant, and its login."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from hooks.context import Authentication, Params, Record
from hooks.tenant import Tenant
from server.engine import Socket


class Connection:
    """One accepted socket. Its login may come and go, and take it into another tenant: see `Connections.switch`."""

    __slots__ = ("address", "authentication", "channels", "claims", "expiry", "headers", "socket", "tenant", "user")

    def __init__(self, socket: Socket, tenant: Tenant, headers: Mapping[str, str], address: str = "") -> None:
        self.socket = socket
        self.tenant = tenant
        self.headers = headers
        self.address = address
        self.authentication: Authentication | None = None
        self.user: Record | None = None
        self.claims: Mapping[str, Any] | None = None
        """Those of the login; of one that has expired, until the next, since it may be renewed."""
        self.channels: set[str] = set()
        self.expiry: asyncio.TimerHandle | None = None
        """Ends the login when its token does."""

    @property
    def id(self) -> str:
        """The socket's id: on polling, knowing it is being the user."""
        return self.socket.id

    def params(self, query: Record) -> Params:
        """What a call over this connection is asked with."""
        return Params(
            tenant=self.tenant,
            query=query,
            provider="socketio",
            address=self.address,
            headers=self.headers,
            connection=self,
            authentication=self.authentication,
            user=self.user,
            authenticated=self.authentication is not None,
        )
