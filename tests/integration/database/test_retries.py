"""What happens when the server fails in the middle of a call, on both paths: done once, or Unavailable."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from hooks.errors import Unavailable
from services.store import Collection, Document
from tests.integration.database.commands import Commands, key, user
from tests.integration.database.fail_points import failing
from tests.support.mongod import ReplicaSet

Call = Callable[[Collection], Awaitable[Any]]


async def insert_one(collection: Collection) -> None:
    await collection.insert([user("new")])


async def insert_two(collection: Collection) -> None:
    await collection.insert([user("new"), user("newer")])


async def increase(collection: Collection) -> Document | None:
    return await collection.find_one_and_update(key("1"), {"$inc": {"n": 1}})


@pytest.mark.parametrize(
    ("call", "documents", "n"),
    [(insert_one, 2, 0), (insert_two, 3, 0), (increase, 1, 1)],
    ids=["insert", "inserts", "increase"],
)
async def test_a_write_whose_answer_is_lost_is_done_once(
    replica_set: ReplicaSet, collection: Collection, call: Call, documents: int, n: int
) -> None:
    await collection.insert([user("1", n=0)])
    async with failing(replica_set, 1, {"closeConnection": True}, "onPrimaryTransactionalWrite"):
        await call(collection)
    (counter,) = await collection.find(key("1"))
    assert counter["n"] == n
    assert await collection.count({"app_id": "acme"}) == documents


@pytest.mark.parametrize("call", [insert_one, increase], ids=["insert", "increase"])
async def test_a_write_that_was_not_replicated_is_asked_again_and_done_once(
    replica_set: ReplicaSet, collection: Collection, commands: Commands, call: Call
) -> None:
    await collection.insert([user("1", n=0)])
    commands.all_started.clear()
    error = {"code": 6, "errmsg": "a member is lost", "errorLabels": ["RetryableWriteError"]}
    async with failing(replica_set, 1, {"failCommands": ["insert", "findAndModify"], "writeConcernError": error}):
        await call(collection)
    sent = commands.named("insert") + commands.named("findAndModify")
    assert len(sent) == 2
    assert sent[0]["lsid"] == sent[1]["lsid"]
    assert sent[0]["txnNumber"] == sent[1]["txnNumber"]
    (counter,) = await collection.find(key("1"))
    assert counter["n"] == (call is increase)


@pytest.mark.parametrize("failure", [{"errorCode": 10107}, {"errorCode": 189}, {"closeConnection": True}], ids=str)
async def test_calls_outlive_one_failure(
    replica_set: ReplicaSet, collection: Collection, failure: dict[str, Any]
) -> None:
    await collection.insert([user("1", n=0)])
    calls: dict[str, Call] = {
        "find": lambda c: c.find(key("1")),
        "count": lambda c: c.count(key("1")),
        "aggregate": lambda c: c.count(key("1")),
        "insert": insert_one,
        "findAndModify": increase,
    }
    for name, call in calls.items():
        data = {"failCommands": [name], **failure}
        if "errorCode" in failure:
            data["errorLabels"] = ["RetryableWriteError"]
        async with failing(replica_set, 1, data):
            assert await call(collection) != []
    assert await collection.find(key("1")) == [user("1", n=1)]


@pytest.mark.parametrize("failure", [{"errorCode": 189}, {"closeConnection": True}], ids=str)
async def test_a_change_of_many_documents_is_never_sent_twice(
    replica_set: ReplicaSet, collection: Collection, commands: Commands, failure: dict[str, Any]
) -> None:
    await collection.insert([user("1", n=0)])
    calls: dict[str, Call] = {
        "update": lambda c: c.update_many(key("1"), {"$inc": {"n": 1}}),
        "delete": lambda c: c.delete_many(key("1")),
    }
    for name, call in calls.items():
        async with failing(replica_set, 1, {"failCommands": [name], **failure}):
            with pytest.raises(Unavailable):
                await call(collection)
        assert len(commands.named(name)) == 1
    assert await collection.find(key("1")) == [user("1", n=0)]


@pytest.mark.parametrize("code", [50, 64], ids=["call too long", "wait too long"])
@pytest.mark.parametrize("call", [insert_one, insert_two, increase], ids=["insert", "inserts", "increase"])
async def test_a_write_without_majority_is_unavailable(
    replica_set: ReplicaSet, collection: Collection, call: Call, code: int
) -> None:
    await collection.insert([user("1", n=0)])
    error = {"code": code, "errmsg": "waiting for replication timed out"}
    async with failing(replica_set, 1, {"failCommands": ["insert", "findAndModify"], "writeConcernError": error}):
        with pytest.raises(Unavailable):
            await call(collection)


async def test_a_server_that_cannot_write_is_unavailable_and_reads_go_on(
    replica_set: ReplicaSet, collection: Collection
) -> None:
    await collection.insert([user("1", n=0)])
    disk_full = {"failCommands": ["insert"], "errorCode": 14031}
    async with failing(replica_set, 100, disk_full):
        with pytest.raises(Unavailable):
            await insert_one(collection)
        assert await collection.count(key("1")) == 1
