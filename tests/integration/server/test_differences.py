"""docs/guide/differences.md: what Roost does where Feathers is weak, as far as no other test shows it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from server.main import Roost
from tests.support.client import Caller, CallError, Client, Rest, connect, fresh, outcome, rest

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["socket", "rest"])
async def client(request: pytest.FixtureRequest, shared: Roost) -> AsyncIterator[Client | Rest]:
    if request.param == "socket":
        async with connect(shared, "acme") as client:
            yield client
    else:
        async with rest(shared, "acme") as client:
            yield client


async def code(client: Caller, method: str, *arguments: Any) -> int:
    refused = await outcome(client, method, "notes", *arguments)
    assert isinstance(refused, CallError), refused
    assert set(refused.wire) <= {"name", "message", "code", "className", "data", "errors"}
    assert refused.message.strip()
    return refused.code


async def make(client: Caller, count: int) -> tuple[str, list[Any]]:
    word = fresh("made")
    records = await client.call("create", "notes", [{"word": word, "n": str(n)} for n in range(count)], {})
    return word, records


async def test_queries_that_a_driver_would_fail_at_are_told_so(client: Caller) -> None:
    queries: list[dict[str, Any]] = [
        {"$or": []}, {"$or": "x"}, {"$and": {}}, {"$or": [1]}, {"$skip": -1}, {"$sort": {"n": 2}}, {"$sort": {"n": "up"}},
        {"$sort": "n"}, {"n": {"$in": "x"}}, {"n": {"$in": [{"$where": 1}]}}, {"$sort": {"$where": 1}},
    ]  # fmt: skip
    for query in queries:
        if isinstance(client, Rest) and query in ({"$or": []}, {"$and": {}}):
            # What is empty has no form in a query string.
            continue
        assert await code(client, "find", query) == 400, query


async def test_and_may_stand_anywhere(client: Caller) -> None:
    word, records = await make(client, 3)
    query = {"word": word, "$or": [{"$and": [{"n": "0"}, {"word": word}]}, {"$and": [{"$or": [{"n": "2"}]}]}]}
    found = await client.call("find", "notes", {**query, "$sort": {"n": 1}})
    assert found == [records[0], records[2]]


async def test_a_list_in_a_query_may_be_long(client: Caller) -> None:
    word, records = await make(client, 60)
    ids = [record["_id"] for record in records]
    found = await client.call("find", "notes", {"_id": {"$in": ids}, "word": word, "$sort": {"_id": 1}})
    assert found == records


async def test_a_select_of_one_name_is_a_list_of_one(client: Caller) -> None:
    word, (record,) = await make(client, 1)
    assert await client.call("find", "notes", {"word": word, "$select": "n"}) == [{"_id": record["_id"], "n": "0"}]


async def test_an_empty_list_creates_nothing(client: Caller) -> None:
    assert await client.call("create", "notes", [], {}) == []


async def test_of_a_list_all_is_kept_and_told_or_nothing(client: Caller, shared: Roost) -> None:
    word, (there, _) = await make(client, 2)
    async with connect(shared, "acme") as listener:
        many = [{"word": word, "n": "new"}, {"word": word, "_id": there["_id"]}, {"word": word, "n": "newer"}]
        assert await code(client, "create", many, {}) == 409
        assert len(await client.call("find", "notes", {"word": word})) == 2
        await client.call("create", "notes", [{"word": word, "n": "3"}, {"word": word, "n": "4"}], {})
        assert [event.record["n"] for event in await listener.take_events() if event.record["word"] == word] == [
            "3",
            "4",
        ]


async def test_a_text_in_a_query_string_that_is_no_number_is_told_so(shared: Roost) -> None:
    async with rest(shared, "acme") as http, connect(shared, "acme") as socket:
        name, text = fresh(), fresh()
        await socket.sign_up(name)
        await http.login(name)
        await socket.call("create", "messages", {"text": text, "n": 7}, {})
        page = await http.call("find", "messages", {"text": text, "n": {"$gt": "6"}})
        assert [found["n"] for found in page["data"]] == [7]
        refused = await outcome(http, "find", "messages", {"$or": [{"n": {"$gt": "many"}}]})
        assert isinstance(refused, CallError)
        assert (refused.code, refused.message) == (400, "validation failed")
        assert refused.wire["data"] == [{"path": "/$or/0/n/$gt", "message": "must be number"}]
        assert (await socket.call("find", "messages", {"text": text, "n": "7"}))["data"] == [], "sockets carry types"


async def test_ids_are_ids_in_every_position(client: Caller) -> None:
    word, (one, two) = await make(client, 2)
    for query in (
        {"_id": one["_id"]}, {"_id": {"$in": [one["_id"]]}}, {"$or": [{"_id": one["_id"]}]}, {"_id": {"$ne": two["_id"]}},
        {"$and": [{"_id": {"$lt": two["_id"]}}]},
    ):  # fmt: skip
        assert await client.call("find", "notes", {**query, "word": word}) == [one]


async def test_a_chosen_id_is_found_again(client: Caller) -> None:
    id = fresh("x").encode().hex()[:24].ljust(24, "0")
    created = await client.call("create", "notes", {"_id": id, "n": 1}, {})
    assert created["_id"] == id
    assert await client.call("get", "notes", id, {}) == created
    assert await client.call("remove", "notes", id, {}) == created


async def test_a_number_is_an_id_of_nothing_and_null_is_none(client: Caller) -> None:
    await make(client, 1)
    assert await code(client, "get", 12345678, {}) == 404
    if isinstance(client, Client):
        # Over REST a get without an id is a find.
        assert await code(client, "get", None, {}) == 400


async def test_limits_do_not_bound_changes_of_many(client: Caller) -> None:
    word, _ = await make(client, 4)
    assert len(await client.call("patch", "notes", None, {"n": "x"}, {"word": word, "$limit": 1})) == 4
    assert len(await client.call("remove", "notes", None, {"word": word, "$limit": 1, "$skip": 1})) == 4


async def test_operators_reach_neither_the_app_nor_a_service_that_offers_none(client: Caller) -> None:
    _, (record,) = await make(client, 1)
    for data in (
        {"$set": {"app_id": "globex"}}, {"$unset": {"app_id": 1}}, {"$rename": {"app_id": "x"}}, {"$set": {"app_id.x": 1}},
        {"app_id": "globex"}, {"$inc": {"n": 1}}, {"n": {"$inc": 1}}, {"a.b": 1},
    ):  # fmt: skip
        assert await code(client, "patch", record["_id"], data, {}) == 400
    assert await client.call("get", "notes", record["_id"], {}) == record


async def test_a_version_in_the_query_keeps_changes_apart(client: Caller) -> None:
    record = await client.call("create", "notes", {"version": "1"}, {})
    assert await client.call("patch", "notes", record["_id"], {"version": "2"}, {"version": "1"})
    assert await code(client, "patch", record["_id"], {"version": "2"}, {"version": "1"}) == 404
