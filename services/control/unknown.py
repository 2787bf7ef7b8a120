"""How often one address may ask for apps that there are not: each such question costs a look at the database."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from hooks.errors import TooManyRequests
from services.authentication.attempts import network

PER_SECOND = 1.0
AT_ONCE = 10
"""Unknown apps that may be asked for in one go."""
MOST = 10_000
"""Addresses that are remembered: those that asked last."""


class UnknownLookups:
    """A bucket per address, emptied by questions for what is unknown and filled by time."""

    def __init__(
        self,
        *,
        per_second: float = PER_SECOND,
        at_once: int = AT_ONCE,
        most: int = MOST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_second = per_second
        self._at_once = at_once
        self._most = most
        self._clock = clock
        self._spent: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def check(self, address: str) -> None:
        """Lets a lookup through, unless too many of this address were in vain.

        Raises:
            TooManyRequests: with the seconds to wait as `data.retry_after`.
        """
        over = self._level(network(address)) + 1 - self._at_once
        if over > 0:
            wait = math.ceil(over / self._per_second)
            message = "Too many unknown apps were asked for from this address: check the app's name"
            raise TooManyRequests(message, data={"retry_after": wait})

    def spend(self, address: str) -> None:
        """A lookup was in vain."""
        source = network(address)
        self._spent[source] = self._level(source) + 1, self._clock()
        self._spent.move_to_end(source)
        while len(self._spent) > self._most:
            self._spent.popitem(last=False)

    def __len__(self) -> int:
        return len(self._spent)

    def _level(self, source: str) -> float:
        spent, at = self._spent.get(source, (0.0, 0.0))
        return max(0.0, spent - (self._clock() - at) * self._per_second)
