"""Channels: who hears what. A channel belongs to one tenant; the same name in another tenant is another channel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from bson import ObjectId

from hooks.context import UNSET, Connection
from hooks.tenant import Tenant

EVERYONE = "roost:everyone"
"""All connections of a tenant."""
AUTHENTICATED = "roost:authenticated"
"""The connections of a tenant that are logged in."""
OWN_PREFIX = "roost:"
"""Channels of the server itself: their names are not for services."""
ROOM_PREFIX = "roost:room:"
"""Rooms of services, as `roost:room:<path> <room>`."""
MAX_ROOM = 256


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


class Channel:
    """One or several channels of one tenant, as services see them: `app.channel(tenant, "a", "b")`.

    Joining and leaving go to all of them; each connection counts once.
    """

    __slots__ = ("_channels", "_keep", "data", "names", "tenant_id")

    def __init__(
        self,
        channels: Channels,
        tenant_id: str,
        names: tuple[str, ...],
        keep: Callable[[Connection], bool] | None = None,
        data: Any = UNSET,
    ) -> None:
        self._channels = channels
        self._keep = keep
        self.tenant_id = tenant_id
        self.names = names
        self.data = data
        """What members are sent instead of the event's record, if set."""

    def join(self, *connections: Connection | None) -> Channel:
        """Adds connections; None is passed over.

        Raises:
            ValueError: a connection of another tenant.
        """
        for connection in connections:
            if connection is None:
                continue
            if connection.tenant.id != self.tenant_id:
                raise ValueError("A connection can only join channels of its own tenant")
            for name in self.names:
                self._channels.join(connection, name)
        return self

    def leave(self, *leaving: Connection | Callable[[Connection], bool] | None) -> Channel:
        """Takes out connections, or those for which a function is true."""
        for one in leaving:
            members = [member for member in self.connections if one(member)] if callable(one) else [one]
            for member in members:
                if member is not None and member.tenant.id == self.tenant_id:
                    for name in self.names:
                        self._channels.leave(member, name)
        return self

    def filter(self, keep: Callable[[Connection], bool]) -> Channel:
        """A channel of those members for which `keep` is true, whenever an event is sent."""
        before = self._keep
        both = keep if before is None else lambda connection: before(connection) and keep(connection)
        return Channel(self._channels, self.tenant_id, self.names, both, self.data)

    def send(self, data: Any) -> Channel:
        """The same members, who are sent `data` instead of the event's record."""
        return Channel(self._channels, self.tenant_id, self.names, self._keep, data)

    @property
    def connections(self) -> list[Connection]:
        """The members at this moment."""
        members = self._channels.members(self.tenant_id, self.names)
        return [member for member in members if self._keep is None or self._keep(member)]

    def __len__(self) -> int:
        return len(self.connections)


def room_channel(path: str, room: object) -> str | None:
    """The name of a room's channel; None when the value names no room: only texts, integers and ObjectIds do."""
    if isinstance(room, bool) or not isinstance(room, (str, int, ObjectId)):
        return None
    name = str(room)
    return f"{ROOM_PREFIX}{path} {name}" if 0 < len(name) <= MAX_ROOM else None


def channel_of(channels: Channels, tenant: Tenant, names: Iterable[str]) -> Channel:
    """The channel of a tenant by one or several names.

    Raises:
        ValueError: no name, or one that the server keeps for itself.
    """
    chosen = tuple(dict.fromkeys(names))
    if not chosen or any(not name or name.startswith(OWN_PREFIX) for name in chosen):
        raise ValueError(f"A channel needs a name that does not begin with '{OWN_PREFIX}'")
    return Channel(channels, tenant.id, chosen)
