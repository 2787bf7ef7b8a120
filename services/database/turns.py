"""Shares for the path without a pool of ours: a command through PyMongo waits until its tenant may send one more."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pymongo.errors import WaitQueueTimeoutError

from hooks.spent import meter
from services.database.shares import Claim, Shares, claim


class Turns:
    """Who waits for a place in his tenant's share, first come first served."""

    def __init__(self, shares: Shares, *, wait_seconds: float) -> None:
        """A call waits `wait_seconds` for its turn."""
        self._shares = shares
        self._wait_seconds = wait_seconds
        self._waiting: dict[Claim, deque[asyncio.Future[None]]] = {}
        self._loop = asyncio.get_running_loop()

    @asynccontextmanager
    async def turn(self, *, searches: bool) -> AsyncIterator[None]:
        """Holds a place in the share of the current tenant, if there is one.

        Raises:
            WaitQueueTimeoutError: None came free in time.
        """
        mine = claim(searches=searches)
        if mine is None:
            yield
            return
        if mine not in self._waiting and self._shares.room(mine) > 0:
            self._shares.take(mine)
        else:
            await self._wait(mine)
        began = self._loop.time()
        try:
            yield
        finally:
            took = self._loop.time() - began
            if (spent := meter.get()) is not None:
                spent.seconds += took
            self._shares.give_back(mine, took)
            self._serve(mine.tenant)
            self._shares.sweep()

    async def _wait(self, mine: Claim) -> None:
        place: asyncio.Future[None] = self._loop.create_future()
        self._waiting.setdefault(mine, deque()).append(place)
        try:
            async with asyncio.timeout(self._wait_seconds):
                await place
        except BaseException as error:
            if not place.cancel() and not place.cancelled():
                self._shares.give_back(mine, None)
            self._serve(mine.tenant)
            if isinstance(error, TimeoutError):
                raise WaitQueueTimeoutError("all places of the tenant stayed busy") from error
            raise

    def _serve(self, tenant: str) -> None:
        for waiting in (Claim(tenant, searches=False), Claim(tenant, searches=True)):
            queue = self._waiting.get(waiting)
            while queue and (queue[0].done() or self._shares.room(waiting) > 0):
                place = queue.popleft()
                if not place.done():
                    self._shares.take(waiting)
                    place.set_result(None)
            if queue is not None and not queue:
                del self._waiting[waiting]
