"""What waits to be sent to other nodes: in order, bounded, and together where much comes at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import structlog
from bson import ObjectId

from services.bus.envelope import Envelope
from services.tasks import end

log = structlog.get_logger()

MOST = 10_000
"""Events that wait."""
BYTES = 64 * 1024 * 1024
"""Their size."""
LARGEST = 8 * 1024 * 1024
"""Bytes of one event. A database keeps no more than twice that, and tells nobody of what comes near it: one event that can
never be sent or heard must not hold up those of all others.
"""
BATCH = 500
BATCH_BYTES = 4 * 1024 * 1024
PAUSE = 0.2
"""Seconds before another attempt."""
GRACE = 2.0
"""Seconds that the last events have to leave."""


class Sealed(NamedTuple):
    """An event that waits; its id and number stay the same however often it is sent."""

    id: ObjectId
    number: int
    """Of this process: the next event has the next one."""
    app_id: str
    body: bytes


Send = Callable[[Sequence[Sealed]], Awaitable[None]]


class Outgoing:
    """Sends events by `send`, again and again until it succeeds. With too many waiting the oldest are lost, and counted."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._waiting: deque[Sealed] = deque()
        self._size = 0
        self._number = 0
        self._news = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self._sending: Sequence[Sealed] = ()
        self.lost = 0

    def start(self) -> None:
        """Begins to send."""
        self._task = asyncio.create_task(self._run(), name="bus")

    def add(self, envelope: Envelope) -> None:
        """Takes an event on."""
        try:
            body = envelope.seal()
        except ValueError:
            log.error("bus: an event cannot travel", tenant=envelope.app_id, service=envelope.path)  # noqa: TRY400
            return
        if len(body) > LARGEST:
            log.error("bus: an event is too large to travel", tenant=envelope.app_id, service=envelope.path)
            return
        self._idle.clear()
        self._number += 1
        self._waiting.append(Sealed(ObjectId(), self._number, envelope.app_id, body))
        self._size += len(body)
        while len(self._waiting) > MOST or self._size > BYTES:
            self._size -= len(self._waiting.popleft().body)
            if not self.lost:
                log.error("bus: events are lost: too many wait to be sent to other nodes")
            self.lost += 1
        self._news.set()

    async def stop(self) -> None:
        """Gives what waits a moment to leave."""
        if self._task is None:
            return
        try:
            async with asyncio.timeout(GRACE):
                await self._idle.wait()
        except TimeoutError:
            log.warning("bus: events were not sent", count=len(self._waiting) + len(self._sending))
        await end(self._task)

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                self._sending = self._next()
                while True:
                    try:
                        await self._send(self._sending)
                    except Exception as error:
                        # Whatever it is: without this task no event would ever leave again.
                        log.warning("bus: other nodes are not reached", error=type(error).__name__)
                        await asyncio.sleep(PAUSE)
                    else:
                        break
                self._sending = ()
            self._idle.set()

    def _next(self) -> list[Sealed]:
        batch: list[Sealed] = []
        size = 0
        while self._waiting and len(batch) < BATCH and size < BATCH_BYTES:
            batch.append(self._waiting.popleft())
            size += len(batch[-1].body)
        self._size -= size
        return batch
