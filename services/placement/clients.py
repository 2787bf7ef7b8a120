"""Clients: the connections to clusters besides the default one, as few as there can be (DB-5, PO-1).

One client for each cluster and credential, shared by all tenants that use them. A client in use is never closed; idle ones are
after some minutes, or sooner when there are too many. Whoever cannot be reached is not asked again for a moment.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog

from hooks.errors import FeathersError
from services.database.deployment import Deployment
from services.placement.provider import unavailable

log = structlog.get_logger()

MOST = 64
"""Clients that are kept open, those in use beyond it aside."""
IDLE = 600.0
"""Seconds after which a client that nobody uses is closed."""
REFUSED = 2.0
"""Seconds for which a cluster that could not be reached is not asked again."""
MOST_USED = 4 * MOST
"""Clients in use at once; further ones are refused."""
OWN = "(own)"
"""In place of a cluster's name, which this can never be: a cluster of the app's own."""


@dataclass(frozen=True, slots=True)
class Address:
    """A cluster with a credential: `key` names both without telling them, and begins with the cluster's name."""

    key: str
    uri: str = field(repr=False)
    pool_size: int


@dataclass(slots=True)
class _Client:
    deployment: Deployment
    users: int = 0
    idle_since: float = 0.0


class Clients:
    """Open deployments by key."""

    def __init__(
        self,
        make: Callable[[Address], Deployment],
        *,
        most: int = MOST,
        idle: float = IDLE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`make` gives a deployment that is not open yet."""
        self._make = make
        self._most = most
        self._idle = idle
        self._clock = clock
        self._open: OrderedDict[str, _Client] = OrderedDict()
        self._opening: dict[str, asyncio.Task[_Client]] = {}
        self._refused: OrderedDict[str, float] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_closed = False

    @property
    def keys(self) -> tuple[str, ...]:
        """The clients that are open, the least recently used first."""
        return (*self._open,)

    def opened(self, key: str) -> Deployment:
        """The deployment of a client that is open, as long as nobody closes it."""
        return self._open[key].deployment

    @property
    def by_cluster(self) -> Iterator[tuple[str, Deployment]]:
        """The open clients, with the names of their clusters."""
        for key, client in self._open.items():
            yield key.partition("/")[0], client.deployment

    @asynccontextmanager
    async def lease(self, address: Address) -> AsyncIterator[Deployment]:
        """The open deployment of an address, which stays open until the block ends.

        Raises:
            Unavailable: it cannot be reached, or too many are in use.
        """
        client = self._open.get(address.key)
        while client is None:
            opened = await self._opened(address)
            # It may have been closed again before this task's turn came.
            client = opened if self._open.get(address.key) is opened else None
        client.users += 1
        self._open.move_to_end(address.key)
        try:
            yield client.deployment
        finally:
            client.users -= 1
            if client.users == 0:
                client.idle_since = self._clock()
                self._sweep()

    async def close(self) -> None:
        """Closes all of them, for good."""
        self._is_closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for task in self._opening.values():
            task.cancel()
        await asyncio.gather(*self._opening.values(), return_exceptions=True)
        for client in self._open.values():
            self._close(client)
        self._open.clear()
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def _opened(self, address: Address) -> _Client:
        if self._is_closed:
            raise unavailable("The server is stopping")
        if self._refused.get(address.key, 0.0) > self._clock():
            raise unavailable("The app's database could not be reached a moment ago")
        task = self._opening.get(address.key)
        if task is None:
            if len(self._open) + len(self._opening) >= MOST_USED:
                raise unavailable("The server uses as many databases as it can: try again in a moment")
            task = self._opening[address.key] = asyncio.ensure_future(self._connect(address))
            task.add_done_callback(lambda _: self._opening.pop(address.key, None))
        # One who waits may be cancelled; the others still want it.
        return await asyncio.shield(task)

    async def _connect(self, address: Address) -> _Client:
        deployment = self._make(address)
        try:
            await deployment.open()
        except FeathersError as error:
            self._refuse(address.key)
            raise unavailable("The app's database cannot be reached") from error
        except Exception as error:
            self._refuse(address.key)
            log.warning("a tenant database's client was not made", client=address.key, error=type(error).__name__)
            await deployment.close()
            raise unavailable("The app's database cannot be reached") from error
        except asyncio.CancelledError:
            await deployment.close()
            raise
        client = self._open[address.key] = _Client(deployment, idle_since=self._clock())
        self._sweep(but=client)
        return client

    def _refuse(self, key: str) -> None:
        self._refused[key] = self._clock() + REFUSED
        self._refused.move_to_end(key)
        while len(self._refused) > MOST_USED:
            self._refused.popitem(last=False)

    def _sweep(self, but: _Client | None = None) -> None:
        """Closes what nobody uses and is too old or too much, `but` what was just opened; comes back while some are open."""
        now = self._clock()
        for key, client in [*self._open.items()]:
            if (
                client.users == 0
                and client is not but
                and (now - client.idle_since >= self._idle or len(self._open) > self._most)
            ):
                del self._open[key]
                self._close(client)
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        if self._open:
            self._sweeper = asyncio.get_running_loop().call_later(max(self._idle / 2, 0.01), self._sweep)

    def _close(self, client: _Client) -> None:
        task = asyncio.ensure_future(client.deployment.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
