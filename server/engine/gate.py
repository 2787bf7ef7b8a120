"""How many calls run at once, across the sockets (and requests) that share a gate."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType

from hooks.errors import TooManyRequests


class Gate:
    """At most `limit` calls run; the sockets of those that must wait take turns, one call each.

    Sockets enter by `enter` and `park`. Others write `async with gate:`, of whom at most `waiting` wait.
    """

    __slots__ = ("_parked", "_waiters", "limit", "running", "waiting")

    def __init__(self, limit: int, waiting: int = 100) -> None:
        self.limit = limit
        self.waiting = waiting
        self.running = 0
        self._waiters = 0
        self._parked: deque[Callable[[], bool]] = deque()

    def enter(self) -> bool:
        """Takes a place if one is free and nobody waits for it."""
        if self._parked or self.running >= self.limit:
            return False
        self.running += 1
        return True

    def park(self, proceed: Callable[[], bool]) -> None:
        """Has `proceed` called once, when a place is free; it answers whether it took the place."""
        self._parked.append(proceed)

    def leave(self) -> None:
        """Gives a place back, to the next that waits."""
        self.running -= 1
        while self._parked and self.running < self.limit:
            self.running += 1
            if not self._parked.popleft()():
                self.running -= 1

    async def __aenter__(self) -> None:
        if self.enter():
            return
        if self._waiters >= self.waiting:
            raise TooManyRequests
        turn = asyncio.get_running_loop().create_future()

        def proceed() -> bool:
            if turn.done():
                return False
            turn.set_result(None)
            return True

        self.park(proceed)
        self._waiters += 1
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self.leave()
            raise
        finally:
            self._waiters -= 1

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()
