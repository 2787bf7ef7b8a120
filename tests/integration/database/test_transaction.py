"""Transactions: all effects together or none, on both command paths."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

from hooks.errors import Conflict, Forbidden
from services.database.deployment import Deployment
from services.database.transaction import current_session
from services.memory import MemoryStore
from services.store import Collection, Namespace
from tests.integration.database.commands import key, user

ACME = {"app_id": "acme"}


async def test_a_transaction_keeps_all_of_its_effects(deployment: Deployment, collection: Collection) -> None:
    async def work() -> str:
        await collection.insert([user("1", n=1)])
        await collection.find_one_and_update(key("1"), {"$inc": {"n": 1}})
        assert await collection.count(ACME) == 1
        return "done"

    assert await deployment.transaction(work) == "done"
    assert await collection.find(ACME) == [user("1", n=2)]
    assert current_session(deployment.client) is None


async def test_a_transaction_that_fails_leaves_nothing_behind(deployment: Deployment, collection: Collection) -> None:
    await collection.insert([user("0"), user("taken")])

    async def work() -> None:
        await collection.insert([user("1")])
        await collection.delete_many(key("0"))
        await collection.insert([user("taken")])

    with pytest.raises(Conflict):
        await deployment.transaction(work)
    assert sorted(d["_id"]["i"] for d in await collection.find(ACME)) == ["0", "taken"]


async def test_others_see_nothing_of_it_before_its_end(deployment: Deployment, collection: Collection) -> None:
    async def outside() -> int:
        return await collection.count(ACME)

    seen: list[int] = []

    async def work() -> None:
        seen.append(await collection.count(ACME))
        await collection.insert([user("1")])
        seen.append(await loop.create_task(outside(), context=before))
        seen.append(await collection.count(ACME))

    loop, before = asyncio.get_running_loop(), contextvars.copy_context()
    await deployment.transaction(work)
    assert seen == [0, 0, 1]


async def test_a_transaction_inside_another_is_a_part_of_it(deployment: Deployment, collection: Collection) -> None:
    async def inner() -> None:
        await collection.insert([user("1")])

    async def work() -> None:
        await deployment.transaction(inner)
        raise Forbidden

    with pytest.raises(Forbidden):
        await deployment.transaction(work)
    assert await collection.count(ACME) == 0


async def test_work_that_lost_against_others_is_done_again(deployment: Deployment, collection: Collection) -> None:
    await collection.insert([user("n", n=0)])
    tries = 0

    async def add() -> None:
        nonlocal tries
        tries += 1
        (found,) = await collection.find(key("n"))
        await asyncio.sleep(0)
        await collection.find_one_and_update(key("n"), {"$set": {"n": found["n"] + 1}})

    await asyncio.gather(*(deployment.transaction(add) for _ in range(8)))
    (found,) = await collection.find(key("n"))
    assert found["n"] == 8
    assert tries > 8, "no two of them met: the test shows nothing"


async def test_a_store_in_memory_undoes_what_failed() -> None:
    store = MemoryStore()
    collection = store.collection(Namespace("db", "users"))
    await collection.insert([user("0", n=1)])

    async def work() -> None:
        await collection.find_one_and_update(key("0"), {"$set": {"n": 2}})
        await store.collection(Namespace("db", "others")).insert([user("1")])
        raise Forbidden

    with pytest.raises(Forbidden):
        await store.transaction(work)
    assert await collection.find(ACME) == [user("0", n=1)]
    assert await store.collection(Namespace("db", "others")).count(ACME) == 0
