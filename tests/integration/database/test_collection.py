"""What `services.store.Collection` promises, on both command paths."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import ObjectId

from hooks.errors import BadRequest, Conflict, FeathersError, GeneralError, PayloadTooLarge, Timeout, Unavailable
from services.database.deployment import Deployment, Path
from services.database.driver import DriverCollection
from services.database.lean import LeanCollection
from services.store import Collection, Namespace
from tests.integration.database.commands import Commands, key, user

ACME = {"app_id": "acme"}


def test_the_path_is_the_one_asked_for(collection: Collection, path: Path) -> None:
    assert type(collection) is {"lean": LeanCollection, "pymongo": DriverCollection}[path]


async def test_find_filters_projects_sorts_and_pages(collection: Collection) -> None:
    await collection.insert([user(str(i), n=i, odd=bool(i % 2)) for i in range(10)])
    assert await collection.find(key("3")) == [user("3", n=3, odd=True)]
    page = await collection.find(
        {**ACME, "odd": True}, projection={"n": 1, "_id": 0}, sort=[("n", -1)], skip=1, limit=3
    )
    assert page == [{"n": 7}, {"n": 5}, {"n": 3}]
    assert [d["n"] for d in await collection.find(ACME, sort=[("odd", 1), ("n", -1)])] == [8, 6, 4, 2, 0, 9, 7, 5, 3, 1]
    assert await collection.find({**ACME, "n": 99}) == []
    assert await collection.count({**ACME, "odd": True}) == 5
    assert await collection.count({"app_id": "other"}) == 0


async def test_find_without_limit_reads_all_batches(collection: Collection) -> None:
    await collection.insert([user(str(i)) for i in range(2_500)])
    assert len(await collection.find(ACME)) == 2_500


async def test_find_reads_a_page_of_more_than_one_message(collection: Collection) -> None:
    for i in range(5):
        await collection.insert([user(str(i), text="x" * 5_000_000)])
    assert [len(d["text"]) for d in await collection.find(ACME, limit=5)] == [5_000_000] * 5


async def test_values_come_back_as_they_went(collection: Collection) -> None:
    oid, at = ObjectId(), datetime(2024, 5, 6, 7, 8, 9, 123_000, tzinfo=UTC)
    document = user(oid, at=at, nested={"a": [1, 2.5, None, True, "é"]}, big=2**40, raw=b"\0\1")
    await collection.insert([document])
    (stored,) = await collection.find(key(oid))
    assert stored == document
    assert stored["at"].tzinfo is not None


async def test_insert_many_keeps_order_and_stops_at_the_first_that_fails(collection: Collection) -> None:
    with pytest.raises(Conflict):
        await collection.insert([user("1"), user("2"), user("1"), user("3")])
    assert [d["_id"]["i"] for d in await collection.find(ACME, sort=[("_id", 1)])] == ["1", "2"]


async def test_insert_of_nothing_sends_nothing(collection: Collection, commands: Commands) -> None:
    await collection.insert([])
    assert commands.named("insert") == []


async def test_insert_of_more_than_one_message(collection: Collection) -> None:
    await collection.insert([user(str(i), text="x" * 6_000_000) for i in range(9)])
    assert await collection.count(ACME) == 9


async def test_one_document_is_updated_replaced_deleted(collection: Collection) -> None:
    await collection.insert([user("1", n=1)])
    assert await collection.find_one_and_update(key("1"), {"$inc": {"n": 2}}) == user("1", n=3)
    assert await collection.find_one_and_replace(key("1"), {"app_id": "acme", "m": 1}) == user("1", m=1)
    assert await collection.find_one_and_delete(key("1")) == user("1", m=1)
    assert await collection.find_one_and_update(key("1"), {"$inc": {"n": 2}}) is None
    assert await collection.find_one_and_replace(key("1"), {"app_id": "acme"}) is None
    assert await collection.find_one_and_delete(key("1")) is None
    assert await collection.count(ACME) == 0


async def test_many_are_updated_and_deleted(collection: Collection) -> None:
    await collection.insert([user(str(i), n=i) for i in range(5)])
    assert await collection.update_many({**ACME, "n": {"$gte": 2}}, {"$set": {"late": True}}) == 3
    assert await collection.update_many({**ACME, "n": {"$gte": 2}}, {"$set": {"late": True}}) == 3
    assert await collection.delete_many({**ACME, "late": True}) == 3
    assert await collection.count(ACME) == 2


Call = Callable[[Collection], Awaitable[Any]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: c.insert([user("taken")]), "A record with this _id exists already."),
        (lambda c: c.insert([user("new", username_key="ann")]), "A record with this username exists already."),
        (
            lambda c: c.insert([user("new"), user("newer", username_key="ann")]),
            "A record with this username exists already.",
        ),
        (
            lambda c: c.find_one_and_update(key("other"), {"$set": {"username_key": "ann"}}),
            "A record with this username exists already.",
        ),
        (
            lambda c: c.update_many(key("other"), {"$set": {"username_key": "ann"}}),
            "A record with this username exists already.",
        ),
    ],
)
async def test_a_duplicate_is_a_conflict_that_names_the_field_only(
    collection: Collection, call: Call, message: str
) -> None:
    await collection.insert([user("taken", username_key="ann"), user("other")])
    with pytest.raises(Conflict) as caught:
        await call(collection)
    assert caught.value.to_json() == {"name": "Conflict", "message": message, "code": 409, "className": "conflict"}
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda c: c.find({"secret": {"$nope": 1}}), BadRequest),
        (lambda c: c.count({"$nope": 1}), BadRequest),
        (lambda c: c.find(ACME, sort=[("secret", 7)]), BadRequest),
        (lambda c: c.find({"n": 2**64}), BadRequest),
        (lambda c: c.find({"n": object()}), BadRequest),
        (lambda c: c.find({"secret": "\ud800"}), BadRequest),
        (lambda c: c.insert([user("1", secret=object())]), BadRequest),
        (lambda c: c.insert([user("1", **{"a\0b": 1})]), BadRequest),
        (lambda c: c.find_one_and_update(ACME, {"$nope": {"secret": 1}}), BadRequest),
        (lambda c: c.find_one_and_update(ACME, {"secret": 1}), BadRequest),
        (lambda c: c.find_one_and_update(ACME, {"$set": {"secret": 1}, "n": 2}), BadRequest),
        (lambda c: c.find_one_and_update(ACME, {}), BadRequest),
        (lambda c: c.find_one_and_update(ACME, {"$set": {"_id": "secret"}}), BadRequest),
        (lambda c: c.find_one_and_update(ACME, {"$inc": {"text": 1}}), BadRequest),
        (lambda c: c.find_one_and_replace(ACME, {"$set": {"secret": 1}}), BadRequest),
        (lambda c: c.update_many(ACME, {"secret": 1}), BadRequest),
        (lambda c: c.update_many(ACME, {"$set": {"_id": "secret"}}), BadRequest),
        (lambda c: c.delete_many({"secret": {"$nope": 1}}), BadRequest),
        (lambda c: c.insert([user("1", text="secret" * 3_000_000)]), PayloadTooLarge),
        (lambda c: c.find({"$where": "secret = 1; sleep(4000)"}), Timeout),
    ],
)
async def test_what_the_server_refuses_is_told_without_its_values(
    collection: Collection, call: Call, expected: type[FeathersError]
) -> None:
    await collection.insert([user("here", text="text")])
    with pytest.raises(expected) as caught:
        await call(collection)
    assert "secret" not in str(caught.value.to_json())
    assert caught.value.code == expected.code


@pytest.mark.parametrize(
    "document",
    [
        {"_id": {"a": "acme", "i": "1"}},
        {"_id": {"a": "acme", "i": "1"}, "app_id": "other"},
        {"_id": {"a": "other", "i": "1"}, "app_id": "acme"},
        {"_id": {"i": "1", "a": "acme"}, "app_id": "acme"},
        {"_id": {"a": "acme", "i": "1", "x": 1}, "app_id": "acme"},
        {"_id": {"a": "acme", "i": 7}, "app_id": "acme"},
        {"_id": {"a": "acme", "i": ""}, "app_id": "acme"},
        {"_id": {"a": "acme"}, "app_id": "acme"},
        {"_id": {"a": "", "i": "1"}, "app_id": ""},
        {"_id": {"a": 1, "i": "1"}, "app_id": 1},
        {"_id": "1", "app_id": "acme"},
    ],
    ids=str,
)
async def test_the_database_itself_refuses_a_document_not_bound_to_its_tenant(
    collection: Collection, document: dict[str, Any]
) -> None:
    with pytest.raises(GeneralError):
        await collection.insert([document])
    assert await collection.count({}) == 0


async def test_the_database_itself_refuses_to_move_a_document_to_another_tenant(collection: Collection) -> None:
    await collection.insert([user("1")])
    with pytest.raises(GeneralError):
        await collection.find_one_and_update(key("1"), {"$set": {"app_id": "other"}})
    with pytest.raises(GeneralError):
        await collection.update_many(ACME, {"$unset": {"app_id": 1}})
    with pytest.raises(GeneralError):
        await collection.find_one_and_replace(key("1"), {"app_id": "other"})


async def test_every_command_is_bounded_and_reported(collection: Collection, commands: Commands) -> None:
    commands.all_started.clear()
    commands.all_succeeded.clear()
    await collection.insert([user("1")])
    await collection.insert([user("2"), user("3")])
    await collection.find(ACME)
    await collection.count(ACME)
    await collection.find_one_and_update(key("1"), {"$set": {"n": 1}})
    await collection.find_one_and_replace(key("1"), {"app_id": "acme"})
    await collection.find_one_and_delete(key("1"))
    await collection.update_many(ACME, {"$set": {"n": 1}})
    await collection.delete_many(ACME)
    assert len(commands.all_started) == len(commands.all_succeeded) == 9
    for event in commands.all_started:
        assert 0 < event.command["maxTimeMS"] <= (4_000 if event.command_name == "insert" else 2_000)
        assert event.database_name == collection.namespace.database
    assert [len(command["documents"]) for command in commands.named("insert")] == [1, 2]
    for name in ("insert", "findAndModify", "update", "delete"):
        for command in commands.named(name):
            assert command["writeConcern"]["w"] == "majority"
            assert command["writeConcern"]["j"] is True
            assert ("txnNumber" in command) == (name in {"insert", "findAndModify"})


async def test_a_failed_command_is_reported(collection: Collection, commands: Commands) -> None:
    with pytest.raises(BadRequest):
        await collection.find({"$nope": 1})
    assert [event.command_name for event in commands.all_failed] == ["find"]


# PyMongo's monitor leaves the socket of a connection that it gives up to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_open_says_when_no_server_answers(unused_tcp_port: int, path: Path) -> None:
    deployment = Deployment(f"mongodb://127.0.0.1:{unused_tcp_port}", path=path)
    with pytest.raises(Unavailable, match="No MongoDB server answered"):
        await deployment.open()
    gc.collect()


async def test_open_says_when_the_uri_is_wrong(path: Path) -> None:
    with pytest.raises(Unavailable, match="URI"):
        await Deployment("mongodb://127.0.0.1/?replicaset", path=path).open()


async def test_calls_in_flight_end_when_the_deployment_closes(deployment: Deployment) -> None:
    collection = deployment.collection(Namespace("closing", "users"))
    calls: list[asyncio.Task[Any]] = [
        asyncio.create_task(collection.find({"$where": "sleep(1000) || true"})) for _ in range(3)
    ]
    calls += [asyncio.create_task(collection.count({})) for _ in range(3)]
    await asyncio.sleep(0)
    await deployment.close()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, (FeathersError, list, int)) for result in results)
