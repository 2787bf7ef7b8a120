"""The lean path's connections to one server: bounded in number, and every wait on them bounded in time."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pymongo.errors import AutoReconnect, NetworkTimeout, PyMongoError, WaitQueueTimeoutError

from services.database.connection import Connection
from services.database.handover import Address, Opened

_SWEEP_SECONDS = 0.25
_IDLE_SECONDS = 60.0
# As PyMongo: a stampede of handshakes helps nobody.
_MAX_CONNECTING = 2
# Half of the pool for one tenant would let its slow commands have all of a small server's processors.
_SHARES = 4


@dataclass(frozen=True, slots=True)
class _Waiter:
    deadline: float
    future: asyncio.Future[Connection]


class Pool:
    """Lends connections, the one used last first. A connection comes back by itself when its reply is there.

    One command is in flight per connection: a slow one delays no other. A tenant has a quarter of the connections at most,
    so that others get one however long its commands take (PO-3); those who wait take turns, tenant by tenant.
    """

    def __init__(
        self,
        address: Address,
        connect: Callable[[Address], Awaitable[Opened]],
        *,
        size: int,
        wait_seconds: float,
        reply_seconds: float,
    ) -> None:
        """Opens nothing yet. A call waits `wait_seconds` for a connection and `reply_seconds` for its reply."""
        self.address = address
        self._connect = connect
        self._size = size
        self._share = max(1, size // _SHARES)
        self._wait_seconds = wait_seconds
        self._reply_seconds = reply_seconds
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._held: dict[str, int] = {}
        self._waiting: dict[str | None, deque[_Waiter]] = {}
        self._connecting: set[asyncio.Task[None]] = set()
        self._retired = False
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(_SWEEP_SECONDS, self._sweep)

    @property
    def drained(self) -> bool:
        """Whether the pool is retired and its last connection closed."""
        return self._retired and not self._open and not self._connecting

    def take(self, holder: str | None) -> Connection | None:
        """An idle connection, if there is one and the tenant may have it; None is the server itself."""
        if holder is not None and self._held.get(holder, 0) >= self._share:
            return None
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                self._lend(connection, holder)
                return connection
        return None

    async def wait(self, holder: str | None) -> Connection:
        """The next connection that comes free or is opened.

        Raises:
            WaitQueueTimeoutError: None did in time.
            PyMongoError: None can be opened.
        """
        if self._retired:
            raise AutoReconnect("the server is no longer the primary")
        future: asyncio.Future[Connection] = self._loop.create_future()
        waiter = _Waiter(self._loop.time() + self._wait_seconds, future)
        self._waiting.setdefault(holder, deque()).append(waiter)
        self._grow()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._give(future.result())
            raise

    def retire(self) -> None:
        """Lends no more: idle connections close now, busy ones with their reply, who waits is sent to look again."""
        self._retired = True
        self._fail_waiting(AutoReconnect("the server is no longer the primary"))
        for connection in self._idle:
            connection.close(AutoReconnect("the pool is retired"))
        self._idle.clear()

    async def close(self) -> None:
        """Closes all connections; calls in flight end with AutoReconnect."""
        self.retire()
        for task in self._connecting:
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        lost = [connection.lost for connection in self._open]
        for connection in tuple(self._open):
            connection.close(AutoReconnect("the deployment is closed"))
        await asyncio.gather(*lost)
        if self._timer is not None:
            self._timer.cancel()

    def _lend(self, connection: Connection, holder: str | None) -> None:
        connection.holder = holder
        if holder is not None:
            self._held[holder] = self._held.get(holder, 0) + 1

    def _take_back(self, connection: Connection) -> None:
        holder, connection.holder = connection.holder, None
        if holder is not None:
            left = self._held[holder] - 1
            if left:
                self._held[holder] = left
            else:
                del self._held[holder]

    def _give(self, connection: Connection) -> None:
        self._take_back(connection)
        if not connection.usable:
            return
        if self._waiting and (turn := self._next_turn()) is not None:
            holder, waiter = turn
            self._lend(connection, holder)
            waiter.future.set_result(connection)
        elif self._retired:
            connection.close(AutoReconnect("the pool is retired"))
        else:
            self._idle.append(connection)

    def _next_turn(self) -> tuple[str | None, _Waiter] | None:
        """Who waits and may have a connection: of the tenant whose turn it is, which then goes to the end."""
        for holder in [*self._waiting]:
            if not self._room(holder):
                continue
            queue = self._waiting.pop(holder)
            while queue:
                waiter = queue.popleft()
                if not waiter.future.done():
                    if queue:
                        self._waiting[holder] = queue
                    return holder, waiter
        return None

    def _room(self, holder: str | None) -> int:
        """How many connections a tenant may have more; the server's own work is not counted."""
        return self._size if holder is None else self._share - self._held.get(holder, 0)

    def _drop(self, connection: Connection) -> None:
        self._open.discard(connection)
        self._take_back(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if self._idle and self._waiting:
            # Its tenant may have another one now.
            self._give(self._idle.pop())
        self._grow()

    def _grow(self) -> None:
        if not self._waiting:
            return
        ready = sum(min(len(queue), self._room(holder)) for holder, queue in self._waiting.items())
        wanted = min(ready, _MAX_CONNECTING) - len(self._connecting)
        room = self._size - len(self._open) - len(self._connecting)
        for _ in range(min(wanted, room)):
            task = self._loop.create_task(self._add())
            self._connecting.add(task)
            task.add_done_callback(self._added)

    async def _add(self) -> None:
        try:
            async with asyncio.timeout(self._wait_seconds):
                opened = await self._connect(self.address)
        except TimeoutError:
            self._fail_waiting(AutoReconnect("no connection was opened in time"))
        except PyMongoError as error:
            self._fail_waiting(error)
        else:
            connection = Connection(opened, self._give, self._drop)
            self._open.add(connection)
            self._give(connection)

    def _added(self, task: asyncio.Task[None]) -> None:
        self._connecting.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail_waiting(error)
        self._grow()

    def _fail_waiting(self, error: BaseException) -> None:
        waiting, self._waiting = self._waiting, {}
        for waiter in itertools.chain.from_iterable(waiting.values()):
            if not waiter.future.done():
                waiter.future.set_exception(error)

    def _sweep(self) -> None:
        now = self._loop.time()
        for holder, queue in [*self._waiting.items()]:
            while queue and queue[0].deadline <= now:
                waiter = queue.popleft()
                if not waiter.future.done():
                    waiter.future.set_exception(WaitQueueTimeoutError("all connections stayed busy"))
            if not queue:
                del self._waiting[holder]
        for connection in tuple(self._open):
            if connection.busy and now - connection.since > self._reply_seconds:
                connection.close(NetworkTimeout("no reply in time"))
        while self._idle and now - self._idle[0].since > _IDLE_SECONDS:
            self._idle.pop(0).close(AutoReconnect("idle for long"))
        self._timer = None if self.drained else self._loop.call_later(_SWEEP_SECONDS, self._sweep)
