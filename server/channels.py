"""Channels: who hears what. A channel belongs to one tenant; the same name in another tenant is another channel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from server.connection import Connection

EVERYONE = "everyone"
"""All connections of a tenant."""
AUTHENTICATED = "authenticated"
"""The connections of a tenant that are logged in."""


class Channels:
    """Members by tenant and channel name. Empty channels disappear."""

    def __init__(self) -> None:
        self._members: dict[tuple[str, str], dict[Connection, None]] = {}

    def join(self, connection: Connection, name: str) -> None:
        """Adds a connection to a channel of its own tenant; joining twice is joining once."""
        self._members.setdefault((connection.tenant.id, name), {})[connection] = None
        connection.channels.add(name)

    def leave(self, connection: Connection, name: str) -> None:
        """Takes a connection out of a channel; leaving what was not joined does nothing."""
        connection.channels.discard(name)
        key = (connection.tenant.id, name)
        members = self._members.get(key)
        if members is not None:
            members.pop(connection, None)
            if not members:
                del self._members[key]

    def leave_all(self, connection: Connection) -> None:
        """Takes a connection out of all its channels."""
        for name in [*connection.channels]:
            self.leave(connection, name)

    def members(self, tenant_id: str, names: Iterable[str]) -> Iterator[Connection]:
        """The connections of a tenant that are in any of the channels, each once, in the order in which they joined."""
        found = [self._members[tenant_id, name] for name in names if (tenant_id, name) in self._members]
        if len(found) == 1:
            return iter([*found[0]])
        return iter({connection: None for members in found for connection in members})

    def names(self, tenant_id: str) -> list[str]:
        """The tenant's channels that have members."""
        return [name for tenant, name in self._members if tenant == tenant_id]
