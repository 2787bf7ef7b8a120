"""A thousand tenants in the catalogue: pages of them, the first call of each at once, and how long a server takes to start."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from contextlib import AsyncExitStack
from functools import partialmethod
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from server.main import Roost
from services.control.catalogue import Catalogue
from tests.support.client import Rest, outcome, rest
from tests.support.roost import ADMIN, CONTROL_PLANE, TWO_APPS, settings_for, start_roost
from tests.support.samples import percentile

pytestmark = pytest.mark.load
TENANTS = 1_000
CLIENTS = 50
"""Clients from which the calls come."""


class Lookups(CommandListener):
    """Counts the reads of the catalogue's tenants."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()

    def started(self, event: CommandStartedEvent) -> None:
        if event.command.get(event.command_name) == "tenants":
            self.seen[event.command_name] += 1

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Nothing to see."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Nothing to see."""


async def fill(uri: str, database: str) -> None:
    """A thousand tenants like the one that is there."""
    async with AsyncMongoClient[dict[str, Any]](uri) as client:
        tenants = client[f"{database}_control"]["tenants"]
        model = await tenants.find_one({"_id": "globex"})
        assert model is not None
        many = [
            {**model, "_id": f"app-{number:04}", "name": f"App {number:04}", "public_keys": [f"pk_{number:032}"]}
            for number in range(TENANTS)
        ]
        await tenants.insert_many(many)


async def pages(roost: Roost) -> dict[str, tuple[float, int]]:
    """Milliseconds of `find` on tenants by query, and how many it finds."""
    queries: dict[str, dict[str, Any]] = {
        "first page": {},
        "last page": {"$skip": TENANTS - 50},
        "by name": {"friendly_name": "App 07"},
        "by status, sorted": {"status": "ready", "$sort": {"created_at": -1}, "$limit": 100},
        "by id": {"_id": "app-0500"},
    }
    found = {}
    async with rest(roost, CONTROL_PLANE) as root:
        await root.login(*ADMIN)
        for name, query in queries.items():
            times = []
            for _ in range(15):
                began = time.perf_counter()
                page = await root.call("find", "tenants", query)
                times.append(time.perf_counter() - began)
            found[name] = statistics.median(times) * 1000, page["total"]
    return found


@pytest.mark.timeout(240)
async def test_a_thousand_tenants(
    mongod: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """CP-10, TC-1: one look-up for the first call of each tenant, though all come at once; pages of them; starts."""
    lookups = Lookups()
    roost = await start_roost(mongod, TWO_APPS, model="shared")
    settings = settings_for(mongod, database=roost.settings.database, data=roost.settings.data)
    await fill(mongod, settings.database)
    with monkeypatch.context() as patch:
        # It knows one tenant, and none of those that are asked for.
        patch.setattr(Catalogue, "warm", partialmethod(Catalogue.warm, 1))
        other = await Roost.start(settings, listeners=[lookups])
    try:
        async with AsyncExitStack() as stack:
            clients: list[Rest] = [await stack.enter_async_context(rest(other, None)) for _ in range(CLIENTS)]
            lookups.seen.clear()
            times: list[float] = []

            async def first(number: int) -> None:
                headers = {"x-app-id": f"app-{number:04}"}
                began = time.perf_counter()
                reply = await clients[number % CLIENTS].request("GET", "/notes", headers=headers)
                times.append(time.perf_counter() - began)
                assert (reply.status, reply.json) == (200, [])

            began = time.perf_counter()
            known = sum(id.startswith("app-") for id in other.catalogue.known())
            assert known <= 1
            await asyncio.gather(*(first(number) for number in range(TENANTS)))
            whole = time.perf_counter() - began
            reads = dict(lookups.seen)
            found = await pages(other)
            async with rest(other, "globex") as user:
                assert (await outcome(user, "find", "tenants")).code == 401
        starts = {TENANTS: await start_times(mongod, settings.database), 2: await start_times(mongod, None)}
    finally:
        await other.stop()
        await roost.drop()
    with capsys.disabled():
        print(  # noqa: T201
            f"\nfind: {'; '.join(f'{name} {ms:.1f} ms of {total}' for name, (ms, total) in found.items())}"
            f"\n{TENANTS} first calls in {whole:.2f} s, p50 {percentile(times, 0.5) * 1000:.0f} ms, "
            f"p99 {percentile(times, 0.99) * 1000:.0f} ms; reads of the catalogue: {reads}"
            f"\nstart: {', '.join(f'{seconds * 1000:.0f} ms with {count}' for count, seconds in starts.items())}"
        )
    assert sum(reads.values()) == TENANTS - known
    assert found["first page"][1] == TENANTS + 3
    assert found["by name"][1] == 100
    assert max(ms for ms, _ in found.values()) < 500


async def start_times(uri: str, database: str | None) -> float:
    """The median of three starts, in seconds, over a database that has been there before."""
    first = await start_roost(uri, TWO_APPS, model="shared") if database is None else None
    used = database if first is None else first.settings.database
    times = []
    for _ in range(3):
        began = time.perf_counter()
        roost = await Roost.start(settings_for(uri, database=used))
        times.append(time.perf_counter() - began)
        await roost.stop()
    if first is not None:
        await first.drop()
    return statistics.median(times)
