"""The first protocol of every connection: plain websocket handshakes are answered here, all else goes to aiohttp.

aiohttp's task, request, response and timers cost several times as much as the handshake that they are for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

Door = Callable[[bytes, asyncio.Transport], bool]
"""Takes a connection over if it can tell by its first bytes; answers whether it did."""


class Hall(Protocol):
    """Where connections come in."""

    def enter(self, entrance: Entrance) -> bool:
        """Counts a connection; answers whether there is room for it."""
        ...

    def watch(self, transport: asyncio.Transport) -> asyncio.TimerHandle:
        """Has the connection cut if its first request does not come in time."""
        ...

    def leave(self, entrance: Entrance) -> None:
        """The connection is gone, or no longer an HTTP connection."""
        ...

    def answer(self, entrance: Entrance, data: bytes) -> None:
        """Leaves a connection, and the bytes that came, to aiohttp."""
        ...


class Entrance(asyncio.Protocol):
    """Waits for the first bytes of a connection."""

    __slots__ = ("_door", "_hall", "_waits", "deadline", "transport")

    def __init__(self, hall: Hall, door: Door | None) -> None:
        self._hall = hall
        self._door = door
        self._waits = True
        self.transport: asyncio.Transport
        self.deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        if self._hall.enter(self):
            self.deadline = self._hall.watch(self.transport)
        else:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.deadline is None:
            return
        self._waits = False
        if self._door is not None and self._door(data, self.transport):
            self.deadline.cancel()
            self._hall.leave(self)
        else:
            self._hall.answer(self, data)

    def connection_lost(self, error: Exception | None) -> None:
        if self._waits:
            self._waits = False
            if self.deadline is not None:
                self.deadline.cancel()
            self._hall.leave(self)
