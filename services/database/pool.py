"""The lean path's connections to one server: bounded in number, and every wait on them bounded in time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from pymongo.errors import AutoReconnect, NetworkTimeout, PyMongoError, WaitQueueTimeoutError

from services.database.connection import Connection
from services.database.handover import Address, Opened

_SWEEP_SECONDS = 0.25
_IDLE_SECONDS = 60.0
# As PyMongo: a stampede of handshakes helps nobody.
_MAX_CONNECTING = 2


class Pool:
    """Lends connections, the one used last first. A connection comes back by itself when its reply is there.

    One command is in flight per connection: a slow one delays no other, and no other tenant.
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
        self._wait_seconds = wait_seconds
        self._reply_seconds = reply_seconds
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._waiting: deque[tuple[float, asyncio.Future[Connection]]] = deque()
        self._connecting: set[asyncio.Task[None]] = set()
        self._retired = False
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(_SWEEP_SECONDS, self._sweep)

    @property
    def drained(self) -> bool:
        """Whether the pool is retired and its last connection closed."""
        return self._retired and not self._open and not self._connecting

    def take(self) -> Connection | None:
        """An idle connection, if there is one."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return None

    async def wait(self) -> Connection:
        """The next connection that comes free or is opened.

        Raises:
            WaitQueueTimeoutError: None did in time.
            PyMongoError: None can be opened.
        """
        if self._retired:
            raise AutoReconnect("the server is no longer the primary")
        future: asyncio.Future[Connection] = self._loop.create_future()
        self._waiting.append((self._loop.time() + self._wait_seconds, future))
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

    def _give(self, connection: Connection) -> None:
        if not connection.usable:
            return
        while self._waiting:
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_result(connection)
                return
        if self._retired:
            connection.close(AutoReconnect("the pool is retired"))
        else:
            self._idle.append(connection)

    def _drop(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._grow()

    def _grow(self) -> None:
        wanted = min(len(self._waiting), _MAX_CONNECTING) - len(self._connecting)
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
        while self._waiting:
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_exception(error)

    def _sweep(self) -> None:
        now = self._loop.time()
        while self._waiting and self._waiting[0][0] <= now:
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_exception(WaitQueueTimeoutError("all connections stayed busy"))
        for connection in tuple(self._open):
            if connection.busy and now - connection.since > self._reply_seconds:
                connection.close(NetworkTimeout("no reply in time"))
        while self._idle and now - self._idle[0].since > _IDLE_SECONDS:
            self._idle.pop(0).close(AutoReconnect("idle for long"))
        self._timer = None if self.drained else self._loop.call_later(_SWEEP_SECONDS, self._sweep)
