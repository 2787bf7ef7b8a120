"""What was lately read from the database and may be believed for a few seconds more."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from services.cache import Shelves

FRESH = 5.0
"""Seconds after which other processes' changes are seen at the latest, should nothing tell of them before."""
MOST = 10_000

Place = tuple[str, str]
"""The tenant's id, and the value's."""

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class Recent(Generic[_Key, _Value]):
    """Values by key, each for some seconds, the oldest going first when there are too many.

    What is struck out stays out: a reading that began before the change cannot bring it back.
    """

    def __init__(self, clock: Callable[[], float], *, fresh: float = FRESH, most: int = MOST) -> None:
        self._clock = clock
        self._fresh = fresh
        self._most = most
        self._kept: OrderedDict[_Key, tuple[float, _Value]] = OrderedDict()
        self._struck: OrderedDict[_Key, None] = OrderedDict()

    def get(self, key: _Key) -> _Value | None:
        """The value, unless it is unknown or too old."""
        found = self._kept.get(key)
        if found is None or not 0 <= self._clock() - found[0] < self._fresh:
            return None
        return found[1]

    def items(self) -> list[tuple[_Key, _Value]]:
        """All that is kept, too old or not."""
        return [(key, value) for key, (_, value) in self._kept.items()]

    def put(self, key: _Key, value: _Value) -> None:
        """Keeps what was read just now."""
        self._kept[key] = self._clock(), value
        self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def drop(self, key: _Key) -> None:
        """Has the value read again when it is next needed."""
        self._kept.pop(key, None)

    def clear(self) -> None:
        """Has everything read again."""
        self._kept.clear()

    def strike(self, key: _Key) -> None:
        """Forgets a value that is gone for good."""
        self._kept.pop(key, None)
        self._struck[key] = None
        self._struck.move_to_end(key)
        while len(self._struck) > self._most:
            self._struck.popitem(last=False)

    def is_struck(self, key: _Key) -> bool:
        """Whether the value is known to be gone; of what was struck out long ago nobody remembers."""
        return key in self._struck


class RecentByTenant(Generic[_Value]):
    """The same for values that are tenants' own: a tenant that has too many pushes out its own alone."""

    def __init__(self, clock: Callable[[], float], *, fresh: float = FRESH, most: int = MOST) -> None:
        self._clock = clock
        self._fresh = fresh
        self._kept: Shelves[tuple[float, _Value]] = Shelves(entries=most)
        self._struck: Shelves[bool] = Shelves(entries=most)

    def get(self, place: Place) -> _Value | None:
        """The value, unless it is unknown or too old."""
        found = self._kept.get(*place)
        if found is None or not 0 <= self._clock() - found[0] < self._fresh:
            return None
        return found[1]

    def of(self, tenant_id: str) -> list[tuple[str, _Value]]:
        """All that is kept of a tenant, too old or not."""
        return [(id, value) for id, (_, value) in self._kept.of(tenant_id)]

    def put(self, place: Place, value: _Value) -> None:
        """Keeps what was read just now."""
        self._kept.put(*place, (self._clock(), value))

    def drop(self, place: Place) -> None:
        """Has the value read again when it is next needed."""
        self._kept.pop(*place)

    def clear(self) -> None:
        """Has everything read again."""
        self._kept.clear()

    def strike(self, place: Place) -> None:
        """Forgets a value that is gone for good."""
        self._kept.pop(*place)
        self._struck.put(*place, True)

    def is_struck(self, place: Place) -> bool:
        """Whether the value is known to be gone; of what was struck out long ago nobody remembers."""
        return self._struck.get(*place) is not None
