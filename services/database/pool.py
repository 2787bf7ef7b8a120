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
from services.database.shares import Claim, Shares

_SWEEP_SECONDS = 0.25
_TOLD_AT_ONCE = 4
_HURRIED_SECONDS = 0.005
_IDLE_SECONDS = 60.0
# As PyMongo: a stampede of handshakes helps nobody.
_MAX_CONNECTING = 2


@dataclass(frozen=True, slots=True)
class _Waiter:
    deadline: float
    future: asyncio.Future[Connection]


class Pool:
    """Lends connections, the one used last first. A connection comes back by itself when its reply is there.

    One command is in flight per connection: a slow one delays no other. A tenant has its share of the connections at most,
    so that others get one however long its commands take; those who wait take turns, tenant by tenant.
    """

    def __init__(
        self,
        address: Address,
        connect: Callable[[Address], Awaitable[Opened]],
        *,
        size: int,
        shares: Shares,
        wait_seconds: float,
        reply_seconds: float,
    ) -> None:
        """Opens nothing yet. A call waits `wait_seconds` for a connection and `reply_seconds` for its reply."""
        self.address = address
        self._connect = connect
        self._size = size
        self._shares = shares
        self._wait_seconds = wait_seconds
        self._reply_seconds = reply_seconds
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._waiting: dict[Claim | None, deque[_Waiter]] = {}
        self._connecting: set[asyncio.Task[None]] = set()
        self._retired = False
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(_SWEEP_SECONDS, self._sweep)

    @property
    def drained(self) -> bool:
        """Whether the pool is retired and its last connection closed."""
        return self._retired and not self._open and not self._connecting

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._open)

    def take(self, holder: Claim | None) -> Connection | None:
        """An idle connection, if there is one and the tenant may have it; None is the server itself."""
        if holder is not None and self._shares.room(holder) <= 0:
            return None
        connection = self._pop_idle()
        if connection is not None:
            self._lend(connection, holder)
        return connection

    async def wait(self, holder: Claim | None) -> Connection:
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

    def _lend(self, connection: Connection, holder: Claim | None) -> None:
        connection.holder, connection.took = holder, None
        if holder is not None:
            self._shares.take(holder)

    def _take_back(self, connection: Connection) -> None:
        holder, connection.holder = connection.holder, None
        if holder is not None:
            self._shares.give_back(holder, connection.took)

    def _give(self, connection: Connection) -> None:
        self._take_back(connection)
        if not connection.usable:
            return
        if self._retired:
            connection.close(AutoReconnect("the pool is retired"))
            return
        self._idle.append(connection)
        if self._waiting:
            self._serve()

    def _serve(self) -> None:
        """Lends idle connections to those who wait; to several when a share has grown."""
        while self._waiting and (connection := self._pop_idle()) is not None:
            turn = self._next_turn()
            if turn is None:
                self._idle.append(connection)
                return
            holder, waiter = turn
            self._lend(connection, holder)
            waiter.future.set_result(connection)

    def _pop_idle(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return None

    def _next_turn(self) -> tuple[Claim | None, _Waiter] | None:
        """Who waits and may have a connection: of the tenant whose turn it is, which then goes to the end."""
        for holder in [*self._waiting]:
            if self._room(holder) <= 0:
                continue
            queue = self._waiting.pop(holder)
            while queue:
                waiter = queue.popleft()
                if not waiter.future.done():
                    if queue:
                        self._waiting[holder] = queue
                    return holder, waiter
        return None

    def _room(self, holder: Claim | None) -> int:
        """How many connections a tenant may have more; the server's own work is not counted."""
        return self._size if holder is None else self._shares.room(holder)

    def _drop(self, connection: Connection) -> None:
        self._open.discard(connection)
        self._take_back(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        # Its tenant may have another one now.
        self._serve()
        self._grow()

    def _grow(self) -> None:
        if not self._waiting:
            return
        ready = sum(min(len(queue), max(0, self._room(holder))) for holder, queue in self._waiting.items())
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
        late = self._send_away(now)
        for connection in tuple(self._open):
            if connection.busy and now - connection.since > self._reply_seconds:
                connection.close(NetworkTimeout("no reply in time"))
        self._shares.sweep()
        while self._idle and now - self._idle[0].since > _IDLE_SECONDS:
            self._idle.pop(0).close(AutoReconnect("idle for long"))
        pause = _HURRIED_SECONDS if late else _SWEEP_SECONDS
        self._timer = None if self.drained else self._loop.call_later(pause, self._sweep)

    def _send_away(self, now: float) -> bool:
        """Tells a few of those who have waited too long; whether there are more.

        Who came together leaves together: the answers to hundreds at once would keep everybody else waiting.
        """
        told = 0
        for holder, queue in [*self._waiting.items()]:
            while queue and queue[0].deadline <= now:
                if told == _TOLD_AT_ONCE:
                    return True
                waiter = queue.popleft()
                if not waiter.future.done():
                    waiter.future.set_exception(WaitQueueTimeoutError("all connections stayed busy"))
                    told += 1
            if not queue:
                del self._waiting[holder]
        return False
