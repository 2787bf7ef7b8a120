"""What all sockets of one engine share."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from server.engine.handlers import Handlers
from server.engine.options import Options
from server.engine.wheel import Wheel

if TYPE_CHECKING:
    from server.engine.carrier import Carrier
    from server.engine.socket import Socket
    from server.engine.websocket import WebSocket


class Hub:
    """The sockets of an engine, its tasks, its one timer."""

    def __init__(self, handlers: Handlers, options: Options) -> None:
        self.loop = asyncio.get_running_loop()
        self.handlers = handlers
        self.options = options
        self.wheel = Wheel()
        self.sockets: dict[Socket, None] = {}
        """Every socket that is open, accepted or not yet."""
        self.leaving: dict[Carrier, None] = {}
        """Carriers that have said goodbye and wait for the client to do so."""
        self.running_calls = 0
        self.draining = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._emptied: asyncio.Event | None = None
        self._unsent: list[WebSocket] = []

    @property
    def full(self) -> bool:
        """Whether no further socket is taken."""
        return self.draining or len(self.sockets) >= self.options.max_connections

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs a coroutine, which must not raise, as a task that is kept until it is done."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def flush_soon(self, websocket: WebSocket) -> None:
        """Sends what a websocket has collected at the end of this turn of the loop: an event and the answer behind it
        leave in one system call.
        """
        self._unsent.append(websocket)
        if len(self._unsent) == 1:
            self.loop.call_soon(self._flush)

    def forget(self, socket: Socket) -> None:
        """A socket is gone."""
        self.sockets.pop(socket, None)
        if not self.sockets and self._emptied is not None:
            self._emptied.set()

    async def wait_empty(self, seconds: float) -> bool:
        """Waits until no socket is open; answers whether that came about in time."""
        if self.sockets:
            self._emptied = asyncio.Event()
            try:
                await asyncio.wait_for(self._emptied.wait(), seconds)
            except TimeoutError:
                return False
        return True

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        for websocket in unsent:
            websocket.flush()

    async def finish_tasks(self, seconds: float) -> None:
        """Waits until every task is done, and cancels those that are not done in time."""
        # What was put off until the next turn of the loop is done then.
        await asyncio.sleep(0)
        if self._tasks:
            _, late = await asyncio.wait(self._tasks.copy(), timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
