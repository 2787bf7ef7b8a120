"""What happens when the server fails in the middle of a call, on both paths: done once, or Unavailable."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from hooks.errors import Unavailable
from services.database.deployment import Deployment
from services.store import Collection
from tests.integration.database.commands import Commands, key, user

Call = Callable[[Collection], Awaitable[Any]]

INSERT: Call = lambda c: c.insert([user("new")])  # noqa: E731
INSERTS: Call = lambda c: c.insert([user("new"), user("newer")])  # noqa: E731
INCREASE: Call = lambda c: c.find_one_and_update(key("1"), {"$inc": {"n": 1}})  # noqa: E731


@asynccontextmanager
async def failing(deployment: Deployment, times: int, point: str = "failCommand", **data: Any) -> AsyncIterator[None]:
    """The server fails so many times as `data` says."""
    admin = deployment.client.admin
    await admin.command({"configureFailPoint": point, "mode": {"times": times}, "data": data})
    try:
        yield
    finally:
        await admin.command({"configureFailPoint": point, "mode": "off"})


@pytest.mark.parametrize("call", [INSERT, INSERTS, INCREASE], ids=["insert", "inserts", "increase"])
async def test_a_write_whose_answer_is_lost_is_done_once(
    deployment: Deployment, collection: Collection, call: Call
) -> None:
    await collection.insert([user("1", n=0)])
    async with failing(deployment, 1, "onPrimaryTransactionalWrite", closeConnection=True):
        await call(collection)
    (counter,) = await collection.find(key("1"))
    assert counter["n"] == (call is INCREASE)
    assert await collection.count({"app_id": "acme"}) == {INSERT: 2, INSERTS: 3, INCREASE: 1}[call]


@pytest.mark.parametrize("call", [INSERT, INCREASE], ids=["insert", "increase"])
async def test_a_write_not_replicated_as_the_server_goes_down_is_asked_again_and_done_once(
    deployment: Deployment, collection: Collection, commands: Commands, call: Call
) -> None:
    await collection.insert([user("1", n=0)])
    commands.all_started.clear()
    error = {"code": 91, "errmsg": "going down", "errorLabels": ["RetryableWriteError"]}
    async with failing(deployment, 1, failCommands=["insert", "findAndModify"], writeConcernError=error):
        await call(collection)
    sent = commands.named("insert") + commands.named("findAndModify")
    assert len(sent) == 2
    assert sent[0]["lsid"] == sent[1]["lsid"]
    assert sent[0]["txnNumber"] == sent[1]["txnNumber"]
    (counter,) = await collection.find(key("1"))
    assert counter["n"] == (call is INCREASE)


@pytest.mark.parametrize("failure", [{"errorCode": 10107}, {"errorCode": 189}, {"closeConnection": True}], ids=str)
async def test_calls_outlive_one_failure(
    deployment: Deployment, collection: Collection, failure: dict[str, Any]
) -> None:
    await collection.insert([user("1", n=0)])
    for name, call in {
        "find": lambda c: c.find(key("1")),
        "count": lambda c: c.count(key("1")),
        "aggregate": lambda c: c.count(key("1")),
        "insert": INSERT,
        "findAndModify": INCREASE,
    }.items():
        labels = {"errorLabels": ["RetryableWriteError"]} if "errorCode" in failure else {}
        async with failing(deployment, 1, failCommands=[name], appName="roost", **failure, **labels):
            assert await call(collection) != []
    assert await collection.find(key("1")) == [user("1", n=1)]


@pytest.mark.parametrize("failure", [{"errorCode": 189}, {"closeConnection": True}], ids=str)
async def test_a_change_of_many_documents_is_never_sent_twice(
    deployment: Deployment, collection: Collection, commands: Commands, failure: dict[str, Any]
) -> None:
    await collection.insert([user("1", n=0)])
    for name, call in {
        "update": lambda: collection.update_many(key("1"), {"$inc": {"n": 1}}),
        "delete": lambda: collection.delete_many(key("1")),
    }.items():
        async with failing(deployment, 1, failCommands=[name], appName="roost", **failure):
            with pytest.raises(Unavailable):
                await call()
        assert len(commands.named(name)) == 1
    assert await collection.find(key("1")) == [user("1", n=0)]


@pytest.mark.parametrize("call", [INSERT, INCREASE], ids=["insert", "increase"])
async def test_a_write_without_majority_is_unavailable(
    deployment: Deployment, collection: Collection, call: Call
) -> None:
    await collection.insert([user("1", n=0)])
    error = {"code": 64, "errmsg": "waiting for replication timed out"}
    async with failing(deployment, 1, failCommands=["insert", "findAndModify"], writeConcernError=error):
        with pytest.raises(Unavailable):
            await call(collection)


@pytest.mark.parametrize("code", [14031, 13435, 11600], ids=["disk full", "read-only", "going down"])
async def test_a_server_that_cannot_write_is_unavailable_and_reads_go_on(
    deployment: Deployment, collection: Collection, code: int
) -> None:
    await collection.insert([user("1", n=0)])
    async with failing(deployment, 100, failCommands=["insert"], appName="roost", errorCode=code):
        with pytest.raises(Unavailable):
            await INSERT(collection)
        assert await collection.count(key("1")) == 1
