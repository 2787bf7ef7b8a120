"""What the lean path does by itself: its pool, its time bounds, cancelled calls, joined inserts."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hooks.errors import BadRequest, Conflict, Unavailable
from services.database.deployment import Deployment, Path
from services.database.lean import LeanCollection
from services.store import Collection, Namespace
from tests.integration.database.commands import Commands, key, user
from tests.integration.database.fail_points import failing
from tests.integration.database.test_retries import increase
from tests.support.mongod import ReplicaSet

ACME = {"app_id": "acme"}


@pytest.fixture
def path() -> Path:
    return "lean"


@pytest.fixture
async def narrow(replica_set: ReplicaSet, collection: Collection) -> AsyncIterator[Collection]:
    """The collection through one connection, with 500 ms for each command."""
    deployment = Deployment(replica_set.uri, path="lean", pool_size=1, max_time_ms=500)
    await deployment.open()
    yield deployment.collection(collection.namespace)
    await deployment.close()


async def test_four_attempts_and_no_more(replica_set: ReplicaSet, collection: Collection) -> None:
    await collection.insert([user("1", n=0)])
    lost = {"failCommands": ["findAndModify"], "closeConnection": True}
    async with failing(replica_set, 3, lost):
        await increase(collection)
    async with failing(replica_set, 4, lost):
        with pytest.raises(Unavailable):
            await increase(collection)
    assert await collection.find(key("1")) == [user("1", n=1)]


async def test_a_cancelled_call_leaves_its_reply_to_nobody(collection: Collection, narrow: Collection) -> None:
    await collection.insert([user("1"), user("2")])
    for _ in range(3):
        call = asyncio.create_task(narrow.find({**key("1"), "$where": "sleep(50) || true"}))
        await asyncio.sleep(0.01)
        call.cancel()
        assert await narrow.find(key("2")) == [user("2")]
        assert call.cancelled()


async def test_a_cancelled_wait_for_a_connection_costs_none(collection: Collection, narrow: Collection) -> None:
    await collection.insert([user("1")])
    busy = asyncio.create_task(narrow.find({**key("1"), "$where": "sleep(50) || true"}))
    await asyncio.sleep(0.01)
    waiting = [asyncio.create_task(narrow.find(key("1"))) for _ in range(3)]
    await asyncio.sleep(0.01)
    waiting[0].cancel()
    waiting[1].cancel()
    assert await waiting[2] == await busy == [user("1")]
    assert await narrow.find(key("1")) == [user("1")]


async def test_a_full_pool_is_unavailable_in_time(replica_set: ReplicaSet, narrow: Collection) -> None:
    start = asyncio.get_running_loop().time()
    block = {"failCommands": ["count"], "blockConnection": True, "blockTimeMS": 2600}
    async with failing(replica_set, 3, block):
        occupant = [asyncio.create_task(narrow.count(ACME)) for _ in range(3)]
        await asyncio.sleep(0.01)
        with pytest.raises(Unavailable):
            await narrow.find(ACME)
        assert asyncio.get_running_loop().time() - start < 2.8
        await asyncio.gather(*occupant, return_exceptions=True)


async def test_a_reply_that_does_not_come_is_not_awaited_for_ever(
    replica_set: ReplicaSet, collection: Collection, narrow: Collection
) -> None:
    await collection.insert([user("1", n=0)])
    block = {"failCommands": ["findAndModify"], "blockConnection": True, "blockTimeMS": 2500}
    async with failing(replica_set, 1, block), asyncio.timeout(4):
        assert await increase(narrow) == user("1", n=1)
    assert await collection.find(key("1")) == [user("1", n=1)]


async def test_waiting_inserts_are_joined_and_each_hears_of_its_own(collection: Collection, commands: Commands) -> None:
    await collection.insert([user("taken-7"), user("x", username_key="ann")])
    commands.all_started.clear()
    documents = [user(f"{'taken' if i == 7 else 'new'}-{i}") for i in range(60)]
    documents[11]["username_key"] = "ann"
    results = await asyncio.gather(*(collection.insert([d]) for d in documents), return_exceptions=True)
    failed = {i: str(result) for i, result in enumerate(results) if result is not None}
    assert failed == {
        7: "A record with this _id exists already.",
        11: "A record with this username exists already.",
    }
    assert isinstance(results[7], Conflict)
    assert await collection.count(ACME) == 2 + 58
    sent = commands.named("insert")
    assert len(sent) <= 4
    assert sum(len(command["documents"]) for command in sent) == 60


async def test_an_insert_that_spoils_its_group_fails_alone(collection: Collection) -> None:
    deep: dict[str, Any] = {}
    for _ in range(250):
        deep = {"deeper": deep}
    documents = [user(str(i)) for i in range(20)]
    documents[9]["deep"] = deep
    results = await asyncio.gather(*(collection.insert([d]) for d in documents), return_exceptions=True)
    assert [i for i, result in enumerate(results) if result is not None] == [9]
    assert await collection.count(ACME) == 19


async def test_an_insert_that_cannot_be_encoded_reaches_no_group(collection: Collection) -> None:
    documents = [user(str(i), value=object() if i == 9 else i) for i in range(20)]
    results = await asyncio.gather(*(collection.insert([d]) for d in documents), return_exceptions=True)
    assert [(i, type(result)) for i, result in enumerate(results) if result is not None] == [(9, BadRequest)]
    assert await collection.count(ACME) == 19


async def test_a_cancelled_insert_does_not_hurt_its_neighbours(collection: Collection) -> None:
    calls = [asyncio.create_task(collection.insert([user(str(i))])) for i in range(20)]
    await asyncio.sleep(0)
    for call in calls[::3]:
        call.cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    kept = {str(i) for i, result in enumerate(results) if result is None}
    assert len(kept) == 13
    stored = {d["_id"]["i"] for d in await collection.find(ACME)}
    assert kept <= stored
    await collection.insert([user("after")])


async def test_joined_inserts_are_done_once_when_the_answer_is_lost(
    replica_set: ReplicaSet, collection: Collection
) -> None:
    async with failing(replica_set, 1, {"closeConnection": True}, "onPrimaryTransactionalWrite"):
        await asyncio.gather(*(collection.insert([user(str(i))]) for i in range(30)))
    assert await collection.count(ACME) == 30


async def test_inserts_of_two_collections_are_not_joined(
    deployment: Deployment, collection: Collection, commands: Commands
) -> None:
    other = deployment.collection(Namespace(collection.namespace.database, "other"))
    await asyncio.gather(*(c.insert([user(str(i))]) for i in range(20) for c in (collection, other)))
    assert await other.count(ACME) == await collection.count(ACME) == 20
    assert {command["insert"] for command in commands.named("insert")} == {"users", "other"}


async def test_a_forked_process_does_not_use_our_connections(collection: Collection) -> None:
    await collection.insert([user("1")])
    child = os.fork()
    if child == 0:
        try:
            collection.count(ACME).send(None)
        except Unavailable:
            os._exit(0)
        finally:
            os._exit(1)
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert await collection.count(ACME) == 1


async def test_a_listener_that_fails_hurts_nobody(replica_set: ReplicaSet, collection: Collection) -> None:
    class Broken(Commands):
        def started(self, event: object) -> None:
            raise ValueError

        def succeeded(self, event: object) -> None:
            raise ValueError

    deployment = Deployment(replica_set.uri, path="lean", event_listeners=[Broken()])
    await deployment.open()
    assert await deployment.collection(collection.namespace).count(ACME) == 0
    await deployment.close()


def test_the_fixtures_give_the_lean_path(collection: Collection, narrow: Collection) -> None:
    assert isinstance(collection, LeanCollection)
    assert isinstance(narrow, LeanCollection)
