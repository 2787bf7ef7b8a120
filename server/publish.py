"""Publishing: an event goes to channels of its tenant, from there to sockets. The only module that sends events."""

from __future__ import annotations

from typing import cast

from hooks.context import UNSET
from server.connection import Connection
from server.engine import Frame
from services.application import Event
from services.publishing import Publishers


class Publisher:
    """Sends each event to the members of the channels that its publisher chose, encoded once for all who get the same."""

    def __init__(self, publishers: Publishers) -> None:
        self._publishers = publishers

    async def __call__(self, event: Event) -> None:
        """Sends `'<path> <event>'` with one argument: the channel's own data if it has any, else the record.

        Who is in several of the channels gets the event once, with the data of the first.
        """
        name = f"{event.registration.path} {event.name}"
        channels = await self._publishers.choose(event.registration, event.name, event.record, event.context)
        shared = Frame(name, event.record)
        reached: set[Connection] = set()
        for channel in channels:
            frame = shared if channel.data is UNSET else Frame(name, channel.data)
            for member in cast("list[Connection]", channel.connections):
                if len(channels) > 1:
                    if member in reached:
                        continue
                    reached.add(member)
                member.socket.write(frame)
