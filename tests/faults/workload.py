"""Writers and readers that note what was acknowledged, so that it can be held against what is stored."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from hooks.errors import FeathersError, Unavailable
from services.store import Collection, Document

_WORKERS = 8
_INSERTS_AT_ONCE = 3


@dataclass(slots=True)
class Tally:
    """What the callers were told."""

    calls: int = 0
    errors: list[FeathersError] = field(default_factory=list)
    longest: float = 0.0
    inserted: set[str] = field(default_factory=set)
    counted: set[str] = field(default_factory=set)


class Workload:
    """Eight workers of one tenant: each inserts three documents at once, counts up a counter of its own, and reads.

    A counter keeps the id of each operation beside its number: one that was done twice shows.
    """

    def __init__(self, collection: Collection, tenant: str) -> None:
        """`collection` is empty of the tenant's documents."""
        self.tally = Tally()
        self._collection = collection
        self._tenant = tenant
        self._running = True
        self._goal = 0
        self._reached = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Creates the counters and sets the workers going."""
        counters: list[Document] = [self._document(f"counter-{i}", n=0, operations=[]) for i in range(_WORKERS)]
        await self._collection.insert(counters)
        self._tasks = [asyncio.create_task(self._work(f"counter-{i}")) for i in range(_WORKERS)]

    async def stop(self) -> Tally:
        """Lets every call end."""
        self._running = False
        await asyncio.gather(*self._tasks)
        return self.tally

    async def calls(self, more: int) -> None:
        """Returns when so many more calls have been answered well."""
        self._goal = self.tally.calls + more
        self._reached.clear()
        await self._reached.wait()

    async def read(self) -> None:
        """Returns when a reading has been answered well."""
        while True:
            try:
                await self._collection.find(self._key("counter-0"), limit=1)
            except Unavailable:
                await asyncio.sleep(0.05)
            else:
                return

    async def assert_kept(self) -> None:
        """Every acknowledged write is there, and no write is there twice."""
        documents = await self._collection.find({"app_id": self._tenant})
        stored = {document["_id"]["i"] for document in documents}
        assert self.tally.inserted <= stored, "acknowledged inserts were lost"
        operations: list[str] = []
        for counter in (document for document in documents if "operations" in document):
            assert counter["n"] == len(counter["operations"])
            operations += counter["operations"]
        assert len(operations) == len(set(operations)), "an update was done twice"
        assert self.tally.counted <= set(operations), "acknowledged updates were lost"
        unknown = len(self.tally.errors)
        assert len(operations) - len(self.tally.counted) <= unknown
        assert len(stored) - _WORKERS - len(self.tally.inserted) <= unknown

    async def _work(self, counter: str) -> None:
        while self._running:
            await asyncio.gather(*(self._insert() for _ in range(_INSERTS_AT_ONCE)))
            await self._count_up(counter)
            await self._timed(self._collection.find(self._key(counter), limit=1))
            await asyncio.sleep(0.1)

    async def _insert(self) -> None:
        name = uuid4().hex
        if await self._timed(self._collection.insert([self._document(name)])):
            self.tally.inserted.add(name)

    async def _count_up(self, counter: str) -> None:
        operation = uuid4().hex
        update = {"$inc": {"n": 1}, "$push": {"operations": operation}}
        if await self._timed(self._collection.find_one_and_update(self._key(counter), update)):
            self.tally.counted.add(operation)

    async def _timed(self, call: Any) -> bool:
        start = time.monotonic()
        try:
            await call
        except FeathersError as error:
            self.tally.errors.append(error)
            return False
        finally:
            self.tally.longest = max(self.tally.longest, time.monotonic() - start)
        self.tally.calls += 1
        if self.tally.calls >= self._goal:
            self._reached.set()
        return True

    def _key(self, name: str) -> Document:
        return {"_id": {"a": self._tenant, "i": name}, "app_id": self._tenant}

    def _document(self, name: str, **fields: Any) -> Document:
        return {**self._key(name), **fields}
