"""MongoDB dies under load: calls fail with 503, sockets stay, nothing hangs, and it works again by itself."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from tests.conftest import StartRoost
from tests.support.client import CallError, Client, connect, outcome, rest, until
from tests.support.mongod import ReplicaSet
from tests.support.roost import start_roost

HANG = 8.0
"""Seconds after which a call without an answer counts as hanging."""
CALLERS = 10


@pytest.mark.faults
@pytest.mark.shared_only(
    "kills the server's own database, on which apps of the other models do not depend for their records"
)
async def test_a_killed_database_is_an_outage_and_no_more() -> None:
    with ReplicaSet() as database:
        roost = await start_roost(database.uri)
        try:
            async with connect(roost, "acme") as ada, rest(roost, "acme") as client:
                await ada.sign_up("ada")
                written: list[int] = []
                failures: Counter[tuple[int, str]] = Counter()
                stopped = asyncio.Event()
                load = [asyncio.create_task(_work(ada, n, written, failures, stopped)) for n in range(CALLERS)]
                await until(lambda: len(written) > 50)

                await asyncio.to_thread(database.kill, 0)
                await until(lambda: failures.total() >= CALLERS, 30)

                async def is_ready(expected: int) -> bool:
                    return (await client.request("GET", "/ready")).status == expected

                await until(lambda: is_ready(503))
                assert (await client.request("GET", "/health")).status == 200
                refused = await client.request("GET", "/notes")
                assert (refused.status, refused.json["name"]) == (503, "Unavailable")
                for login in ({"strategy": "local", "username": "ada", "password": "secret-123"},):
                    assert (await outcome(client, "create", "authentication", login)).code == 503
                assert ada.connected

                before = len(written)
                await database.restart(0)
                await until(lambda: is_ready(200), 15)
                await until(lambda: len(written) > before + 50, 15)
                stopped.set()
                await asyncio.gather(*load)
                assert set(failures) == {(503, "Unavailable")}
                assert ada.connected
                kept = {note["n"] for note in await ada.call("find", "notes", {"$select": ["n"]})}
                assert kept >= set(written), "an acknowledged record is lost"
        finally:
            await roost.drop()


async def test_a_server_that_may_not_write_is_not_ready(roosts: StartRoost) -> None:
    """LIMITS F3: `/ready` says 200 no earlier than writes are taken again."""
    roost = await roosts()
    async with rest(roost, "acme") as client:
        heartbeat = roost.backend.nodes._task
        assert heartbeat is not None
        heartbeat.cancel()
        roost.backend.writes.hold(time.monotonic() - 1)
        ready = await client.request("GET", "/ready")
        assert (ready.status, ready.json) == (503, {"status": "unavailable", "mongodb": "up"})
        assert (await client.request("POST", "/notes", {"text": "x"})).status == 503
        roost.backend.writes.hold(time.monotonic() + 60)
        assert (await client.request("GET", "/ready")).status == 200


async def _work(
    client: Client, start: int, written: list[int], failures: Counter[tuple[int, str]], stopped: asyncio.Event
) -> None:
    number = start
    while not stopped.is_set():
        try:
            async with asyncio.timeout(HANG):
                await client.call("create", "notes", {"n": number}, {})
        except CallError as error:
            failures[error.code, error.name] += 1
        else:
            written.append(number)
        number += CALLERS
        await asyncio.sleep(0.005)
