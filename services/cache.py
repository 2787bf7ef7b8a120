"""Caches in memory: nothing is kept or found without a tenant, and a noisy tenant pushes out its own entries alone.

Every key is `t:<app_id>:e<epoch>:<kind>:<id>`: a change of the tenant, a move to another database among them, leaves older
entries out of reach.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from hooks.tenant import Tenant

ENTRIES = 1_000
"""Of one tenant."""
SIZE = 4 * 1024 * 1024
"""Bytes of one tenant's entries, by what those who put them say."""
TENANTS = 10_000

Value = TypeVar("Value")


def key(app_id: str, epoch: int, kind: str, id: str) -> str:
    """The name of an entry; neither kind nor id can reach into another part of it."""
    return f"t:{app_id}:e{epoch}:{quote(kind, safe='')}:{quote(id, safe='')}"


@dataclass(slots=True)
class _Shelf(Generic[Value]):
    entries: OrderedDict[str, tuple[Value, int]]
    size: int = 0


class Shelves(Generic[Value]):
    """Entries of each tenant on a shelf of its own: its oldest go when it is full, the idlest shelf when there are too many."""

    def __init__(self, *, entries: int = ENTRIES, size: int = SIZE, tenants: int = TENANTS) -> None:
        self._entries = entries
        self._size = size
        self._tenants = tenants
        self._shelves: OrderedDict[str, _Shelf[Value]] = OrderedDict()

    def get(self, app_id: str, name: str) -> Value | None:
        """The value, or None."""
        shelf = self._shelves.get(app_id)
        found = None if shelf is None else shelf.entries.get(name)
        return None if found is None else found[0]

    def put(self, app_id: str, name: str, value: Value, size: int = 0) -> None:
        """Keeps a value; one that is larger than a whole shelf is not kept, and costs no other one its place."""
        if size > self._size:
            self.pop(app_id, name)
            return
        shelf = self._shelves.get(app_id)
        if shelf is None:
            shelf = self._shelves[app_id] = _Shelf(OrderedDict())
        self._shelves.move_to_end(app_id)
        self._take(shelf, name)
        shelf.entries[name] = (value, size)
        shelf.size += size
        while shelf.entries and (len(shelf.entries) > self._entries or shelf.size > self._size):
            self._take(shelf, next(iter(shelf.entries)))
        while len(self._shelves) > self._tenants:
            self._shelves.popitem(last=False)

    def pop(self, app_id: str, name: str) -> None:
        """Forgets a value."""
        shelf = self._shelves.get(app_id)
        if shelf is not None:
            self._take(shelf, name)
            if not shelf.entries:
                del self._shelves[app_id]

    def of(self, app_id: str) -> Iterator[tuple[str, Value]]:
        """The entries of one tenant, the oldest first."""
        shelf = self._shelves.get(app_id)
        return iter(() if shelf is None else [(name, value) for name, (value, _) in shelf.entries.items()])

    def all(self) -> list[tuple[str, str, Value]]:
        """Everything that is kept, by tenant and name."""
        return [(id, name, value) for id, own in self._shelves.items() for name, (value, _) in own.entries.items()]

    def forget(self, app_id: str) -> None:
        """Forgets all that is kept of a tenant."""
        self._shelves.pop(app_id, None)

    def clear(self) -> None:
        """Forgets everything."""
        self._shelves.clear()

    def __len__(self) -> int:
        return sum(len(shelf.entries) for shelf in self._shelves.values())

    @staticmethod
    def _take(shelf: _Shelf[Value], name: str) -> None:
        found = shelf.entries.pop(name, None)
        if found is not None:
            shelf.size -= found[1]


class Cache:
    """Values of tenants, each for some seconds. `cache.of(tenant)` is the only way in."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, **budget: int) -> None:
        """`clock` tells seconds; `budget` is that of `Shelves`."""
        self.clock = clock
        self.shelves: Shelves[tuple[float, Any]] = Shelves(**budget)
        self.loads: dict[str, asyncio.Task[Any]] = {}

    def of(self, tenant: Tenant) -> TenantCache:
        """The tenant's part."""
        return TenantCache(self, tenant)

    def forget(self, app_id: str) -> None:
        """Forgets all that is kept of a tenant, of whatever epoch; loads that began before cannot bring it back."""
        self.shelves.forget(app_id)
        for name in [name for name in self.loads if name.startswith(f"t:{app_id}:")]:
            del self.loads[name]


class TenantCache:
    """One tenant's part of a cache."""

    __slots__ = ("_cache", "_tenant")

    def __init__(self, cache: Cache, tenant: Tenant) -> None:
        self._cache = cache
        self._tenant = tenant

    def get(self, kind: str, id: str) -> Any:
        """The value, or None when there is none or it is too old."""
        name = self._name(kind, id)
        found = self._cache.shelves.get(self._tenant.id, name)
        if found is None:
            return None
        until, value = found
        if self._cache.clock() < until:
            return value
        self._cache.shelves.pop(self._tenant.id, name)
        return None

    def put(self, kind: str, id: str, value: Any, *, seconds: float, size: int = 0) -> None:
        """Keeps a value for some seconds; `size` is what it weighs, in bytes."""
        until = self._cache.clock() + seconds
        self._cache.shelves.put(self._tenant.id, self._name(kind, id), (until, value), size)

    def drop(self, kind: str, id: str) -> None:
        """Forgets a value; a load that began before cannot bring it back."""
        name = self._name(kind, id)
        self._cache.shelves.pop(self._tenant.id, name)
        self._cache.loads.pop(name, None)

    async def fetch(
        self,
        kind: str,
        id: str,
        load: Callable[[], Awaitable[Value]],
        *,
        seconds: float,
        weigh: Callable[[Value], int] = lambda value: 0,
    ) -> Value:
        """The value, loaded once however many ask for it at the same time. An error goes to all of them and is not kept.

        `weigh` tells what a value weighs, in bytes.
        """
        known = self.get(kind, id)
        if known is not None:
            found: Value = known
            return found
        name = self._name(kind, id)
        task = self._cache.loads.get(name)
        if task is None:
            task = self._cache.loads[name] = asyncio.ensure_future(self._load(name, load, seconds, weigh))
        # One who is tired of waiting does not take the value from the others.
        loaded: Value = await asyncio.shield(task)
        return loaded

    async def _load(
        self, name: str, load: Callable[[], Awaitable[Value]], seconds: float, weigh: Callable[[Value], int]
    ) -> Value:
        mine = asyncio.current_task()
        try:
            value = await load()
            if self._cache.loads.get(name) is mine:
                until = self._cache.clock() + seconds
                self._cache.shelves.put(self._tenant.id, name, (until, value), weigh(value))
        finally:
            if self._cache.loads.get(name) is mine:
                del self._cache.loads[name]
        return value

    def _name(self, kind: str, id: str) -> str:
        return key(self._tenant.id, self._tenant.epoch, kind, id)
