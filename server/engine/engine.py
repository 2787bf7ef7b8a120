"""The engine: what the rest of the server starts, attaches and stops."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from server.engine import frames, library
from server.engine.handlers import Handlers
from server.engine.hub import Hub
from server.engine.listener import DOOR
from server.engine.options import Options

_BATCH = 100
_BATCHES_PER_SECOND = 10


class Engine:
    """Serves Socket.IO on an aiohttp application."""

    def __init__(self, handlers: Handlers, options: Options | Mapping[str, Any] | None = None) -> None:
        """Makes an engine.

        Raises:
            library.Unsuitable: the installed libraries are not those that the engine was written for.
        """
        library.check()
        self.options = options if isinstance(options, Options) else Options(**(options or {}))
        self._hub = Hub(handlers, self.options)
        self._library = library.Library(self._hub)

    @property
    def connections(self) -> int:
        """How many sockets are open, accepted or not yet."""
        return len(self._hub.sockets)

    @property
    def running_calls(self) -> int:
        """How many calls run."""
        return self._hub.running_calls

    def attach(self, app: web.Application) -> None:
        """Adds the `/socket.io/` routes, and the door by which a `Listener` lets websockets in without a request."""
        self._library.attach(app, self.options.path)
        app[DOOR] = self._library.welcome

    async def drain(self, seconds: float = 10.0) -> bool:
        """Takes no new sockets, and closes those that are there as soon as their calls are answered.

        They go in batches at uneven intervals, over half of the time at most, so that the clients do not all come back
        at once. Answers whether all were gone in time; `close` ends those that were not.
        """
        self._hub.draining = True
        deadline = asyncio.get_running_loop().time() + seconds
        sockets = [*self._hub.sockets]
        random.shuffle(sockets)
        size = max(_BATCH, int(len(sockets) / (seconds / 2 * _BATCHES_PER_SECOND)) + 1)
        for start in range(0, len(sockets), size):
            if start:
                await asyncio.sleep(random.uniform(0.5, 1.5) / _BATCHES_PER_SECOND)
            for socket in sockets[start : start + size]:
                if socket.open:
                    socket.retire()
        return await self._hub.wait_empty(max(0.0, deadline - asyncio.get_running_loop().time()))

    async def close(self) -> None:
        """Closes every socket, and ends what still runs."""
        self._hub.draining = True
        for socket in [*self._hub.sockets]:
            socket.end("server shutting down", frames.GOING_AWAY)
        await self._hub.finish_tasks(1.0)
        for carrier in [*self._hub.leaving]:
            carrier.abort()
