"""Publishing: an event goes to channels of its tenant, from there to sockets. The only module that sends events."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from server.connection import Connection
from server.connections import Ending
from server.engine import Frame
from services.application import Event
from services.publishing import Publishers


class Publisher:
    """Sends each event to the members of the channels that its publisher chose, encoded once for all who get the same."""

    def __init__(self, publishers: Publishers) -> None:
        self._publishers = publishers

    async def __call__(self, event: Event) -> None:
        """Sends `'<path> <event>'` with one argument: the group's own data if it has any, else the record.

        Who is in several of the groups gets the event once, with the data of the first.
        """
        path = event.registration.path
        groups = await self._publishers.choose(event.registration, event.name, event.record, event.context)
        shared = Frame(f"{path} {event.name}", event.record)
        reached: set[Connection] = set()
        for group in groups:
            is_shared = group.event == event.name and group.data is event.record
            frame = shared if is_shared else Frame(f"{path} {group.event}", group.data)
            for member in cast("Iterable[Connection]", group.connections):
                if len(groups) > 1:
                    if member in reached:
                        continue
                    reached.add(member)
                member.socket.write(frame)


def tell_ending(connection: Connection, reason: Ending) -> None:
    """Tells a client that its login is over although it has not logged out: `'authentication removed'`, to it alone."""
    connection.socket.write(Frame("authentication removed", {"reason": reason}))
