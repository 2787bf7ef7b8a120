"""Continuous writes of some apps, and who listens to them: every record is numbered, so that what is missing is seen."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Self

from tests.support.client import CallError, Client, Served, connect, outcome

RETRY = 0.02
"""Seconds after which a refused write is tried again."""


@dataclass
class Writer:
    """Creates records one after the other, `{_id: "<writer>-<n>", writer, n}`, and insists where it is refused."""

    name: str
    client: Client
    pace: float
    """Seconds between two records."""
    acked: int = 0
    refusals: list[str] = field(default_factory=list)
    """The sentences by which it was asked to try again."""
    longest: float = 0.0
    """Seconds between two acknowledged records, at most."""
    errors: list[str] = field(default_factory=list)

    async def write(self, stop: asyncio.Event) -> None:
        """Writes until it is told to stop; the last record is acknowledged then."""
        due = last = time.monotonic()
        while not stop.is_set():
            await self._insist({"_id": f"{self.name}-{self.acked}", "writer": self.name, "n": self.acked})
            now = time.monotonic()
            self.longest, last = max(self.longest, now - last), now
            self.acked += 1
            due += self.pace
            await asyncio.sleep(max(0.0, due - now))

    async def _insist(self, record: dict[str, Any]) -> None:
        while True:
            answer = await outcome(self.client, "create", "notes", record, {})
            if not isinstance(answer, CallError):
                return
            if answer.code == 503:
                self.refusals.append(answer.message)
                if (answer.data or {}).get("reason") not in (None, "TenantMigrating"):
                    self.errors.append(f"{answer} {answer.data}")
            elif answer.code == 409:
                # The answer to an earlier try was lost; the record is there.
                return
            else:
                self.errors.append(str(answer))
            await asyncio.sleep(RETRY)


@dataclass
class Traffic:
    """Writers and listeners of some apps on one server. A context manager: it ends with the block."""

    server: Served
    apps: tuple[str, ...]
    rate: float
    """Records in a second, of all together."""
    each: int = 2
    """Writers of an app."""
    writers: dict[str, list[Writer]] = field(default_factory=dict)
    listeners: dict[str, Client] = field(default_factory=dict)

    async def __aenter__(self) -> Self:
        self._stack = AsyncExitStack()
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        pace = len(self.apps) * self.each / self.rate
        for app_id in self.apps:
            self.listeners[app_id] = await self._stack.enter_async_context(connect(self.server, app_id))
            self.writers[app_id] = []
            for number in range(self.each):
                client = await self._stack.enter_async_context(connect(self.server, app_id))
                self.writers[app_id].append(Writer(f"w{number}", client, pace))
        for writers in self.writers.values():
            self._tasks += [asyncio.create_task(writer.write(self._stop)) for writer in writers]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    async def end(self) -> None:
        """Stops writing, and returns when everything is acknowledged and heard."""
        self._stop.set()
        async with asyncio.timeout(30):
            await asyncio.gather(*self._tasks)
            for client in self.listeners.values():
                await client.fence()

    def longest(self, app_id: str) -> float:
        """Seconds for which the writers of an app waited, at most."""
        return max(writer.longest for writer in self.writers[app_id])

    def refusals(self, app_id: str) -> list[str]:
        """The sentences by which the writers of an app were asked to try again."""
        return [sentence for writer in self.writers[app_id] for sentence in writer.refusals]

    def heard(self, app_id: str) -> dict[str, list[int]]:
        """The numbers of the created records that were heard of, by writer, in their order."""
        found: dict[str, list[int]] = defaultdict(list)
        for event in self.listeners[app_id].events:
            if event.name == "notes created" and "writer" in event.record:
                found[event.record["writer"]].append(event.record["n"])
        return found

    def check(self, stored: dict[str, list[dict[str, Any]]]) -> None:
        """0 lost, 0 doubled, events in order; `stored` are the records that each app has in the end."""
        for app_id, writers in self.writers.items():
            kept = sorted((record["writer"], record["n"]) for record in stored[app_id])
            assert kept == sorted((writer.name, n) for writer in writers for n in range(writer.acked)), app_id
            heard = self.heard(app_id)
            for writer in writers:
                assert writer.errors == [], app_id
                assert heard[writer.name] == list(range(writer.acked)), (app_id, writer.name)
