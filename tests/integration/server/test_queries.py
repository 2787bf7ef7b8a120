"""What services offer besides the usual queries and patches, declared in the file and called over both transports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from server.backend import open_backend
from server.main import Roost
from services.declaration import parse
from tests.conftest import StartRoost
from tests.support.client import Caller, CallError, Client, Rest, connect, outcome, rest, until

DECLARED = """
tenants:
  - id: acme
    services:
      articles:
        schema:
          title: {type: string, required: true, maxLength: 40}
          likes: {type: integer}
          stock: {type: integer, minimum: 0}
          tags: {type: array, items: {type: string}}
          at: {type: object, properties: {x: {type: number}}}
        operators: [$exists, $startsWith]
        search: [title, tags]
        updates: [$set, $unset, $inc, $min, $max, $mul, $push, $pull, $addToSet]
        readonly: [author]
        paginate: {default: 2, max: 10}
        multi: true
        rules: {default: public}
      plain: {collection: articles, rules: {default: public}}
  - id: globex
    services:
      articles: {search: [body], rules: {default: public}, multi: true}
"""


@pytest_asyncio.fixture
async def roost(roosts: StartRoost) -> Roost:
    return await roosts(DECLARED)


@pytest_asyncio.fixture(params=["socket", "rest"])
async def client(request: pytest.FixtureRequest, roost: Roost) -> AsyncIterator[Client | Rest]:
    if request.param == "socket":
        async with connect(roost, "acme") as client:
            yield client
    else:
        async with rest(roost, "acme") as client:
            yield client


async def titles(client: Caller, query: dict[str, Any]) -> list[str]:
    return [record["title"] for record in (await client.call("find", "articles", query))["data"]]


async def test_filters_that_a_service_offers(client: Caller) -> None:
    await client.call(
        "create", "articles", [{"title": "Red fox", "likes": 1}, {"title": "Red hen", "tags": ["farm"]}], {}
    )
    assert await titles(client, {"likes": {"$exists": True}}) == ["Red fox"]
    assert await titles(client, {"title": {"$startsWith": "Red h"}}) == ["Red hen"]
    assert await titles(client, {"$search": "FARM fox", "$sort": {"title": -1}}) == ["Red hen", "Red fox"]
    assert await titles(client, {"$search": "fox", "tags": "farm"}) == []
    for query in ({"title": {"$startsWith": "R"}}, {"likes": {"$exists": True}}, {"$search": "fox"}):
        refused = await outcome(client, "find", "plain", query)
        assert isinstance(refused, CallError)
        assert (refused.code, refused.message[:7]) == (400, "Invalid")


async def test_pages_by_cursor(client: Caller) -> None:
    await client.call("create", "articles", [{"title": f"a{n}", "likes": n // 2} for n in range(5)], {})
    query: dict[str, Any] = {"$sort": {"likes": -1}, "$total": False}
    page = await client.call("find", "articles", {**query, "$cursor": True})
    seen = [page]
    while page["cursor"]["next"] is not None:
        page = await client.call("find", "articles", {**query, "$after": page["cursor"]["next"]})
        seen.append(page)
    assert [record["title"] for page in seen for record in page["data"]] == ["a4", "a3", "a2", "a1", "a0"]
    assert [set(page) for page in seen] == [{"limit", "skip", "data", "cursor"}] * 3
    back = await client.call("find", "articles", {**query, "$before": seen[2]["cursor"]["previous"]})
    assert back["data"] == seen[1]["data"]


async def test_operators_in_patches(client: Caller) -> None:
    record = await client.call("create", "articles", {"title": "one", "likes": 1, "stock": 1, "at": {"x": 1}}, {})
    id = record["_id"]
    changed = await client.call(
        "patch",
        "articles",
        id,
        {"title": "two", "$inc": {"likes": 2, "at.x": 1}, "$push": {"tags": {"$each": ["a", "b"]}}},
        {},
    )
    assert changed == {**record, "title": "two", "likes": 3, "at": {"x": 2}, "tags": ["a", "b"]}
    refused: list[tuple[Any, str]] = [
        ({"$inc": {"likes": 0.5}}, "validation failed"), ({"$inc": {"stock": -2}}, "validation failed"),
        ({"$push": {"tags": 5}}, "validation failed"), ({"$set": {"at.x": "y"}}, "validation failed"),
        ({"$unset": {"title": True}}, "validation failed"), ({"$set": {"title": "x" * 41}}, "validation failed"),
        ({"$set": {"author": "me"}}, "'author' is set by the server"), ({"author": "me"}, "'author' is set by the server"),
        ({"$set": {"_id": "x"}}, "'_id' cannot be changed"), ({"$set": {"app_id": "globex"}}, "'app_id' is set by the server"),
        ({"$unset": {"app_id.x": 1}}, "'app_id' is set by the server"), ({"$rename": {"title": "x"}}, "Invalid key '$rename'"),
        ({"likes": 1, "$inc": {"likes": 1}}, "changed twice"), ({"title": {"$set": 1}}, "Invalid key '$set'"),
        ({"$set": {"tags": [{"$where": 1}]}}, "validation failed"),
        ({"$set": {"more": [{"$where": 1}]}}, "Invalid key '$where'"),
    ]  # fmt: skip
    for data, words in refused:
        error = await outcome(client, "patch", "articles", id, data, {})
        assert isinstance(error, CallError), data
        assert (error.code, words in error.message) == (400, True), (data, error.message)
    many = await client.call("patch", "articles", None, {"$inc": {"likes": 1}}, {"likes": 3})
    assert [one["likes"] for one in many] == [4]
    assert await client.call("get", "articles", id, {}) == {**changed, "likes": 4}
    for path, method, arguments in (
        ("plain", "patch", (id, {"$inc": {"likes": 1}}, {})),
        ("articles", "create", ({"title": "x", "$inc": {"likes": 1}}, {})),
        ("articles", "update", (id, {"title": "x", "$inc": {"likes": 1}}, {})),
    ):
        error = await outcome(client, method, path, *arguments)
        assert (error.code, "Invalid key '$inc'" in error.message) == (400, True)


async def test_a_bound_holds_against_many_at_once(roost: Roost) -> None:
    async with connect(roost, "acme") as ada:
        record = await ada.call("create", "articles", {"title": "one", "stock": 3}, {})
        calls = [outcome(ada, "patch", "articles", record["_id"], {"$inc": {"stock": -1}}, {}) for _ in range(8)]
        done = await asyncio.gather(*calls)
        assert all(isinstance(one, dict) or one.code in (400, 409) for one in done)
        left = (await ada.call("get", "articles", record["_id"], {}))["stock"]
        assert left == 3 - sum(isinstance(one, dict) for one in done) >= 0
        await ada.take_events()


async def test_the_event_of_an_operator_is_the_whole_record(roost: Roost) -> None:
    async with connect(roost, "acme") as ada, connect(roost, "acme") as bob:
        record = await ada.call("create", "articles", {"title": "one", "likes": 1}, {})
        await bob.next_event()
        await ada.call("patch", "articles", record["_id"], {"$inc": {"likes": 1}}, {"$select": ["title"]})
        event = await bob.next_event()
        assert (event.name, event.record) == ("articles patched", {**record, "likes": 2})
        await ada.take_events()


async def test_records_that_were_there_before_become_searchable(roost: Roost) -> None:
    async with rest(roost, "acme") as acme, rest(roost, "globex") as globex, open_backend(roost.settings) as elsewhere:
        await acme.call("create", "articles", [{"title": "old apple", "author_note": "pear"}], {})
        await globex.call("create", "articles", [{"title": "apple", "body": "pear"}], {})
        await elsewhere.apply(parse(DECLARED.replace("search: [title, tags]", "search: [author_note]")))

        async def found(client: Rest, word: str) -> int:
            return int((await client.call("find", "articles", {"$search": word}))["total"])

        async def moved() -> bool:
            return await found(acme, "pear") == 1

        await until(moved)
        assert (await found(acme, "apple"), await found(globex, "pear"), await found(globex, "apple")) == (0, 1, 0)
        await elsewhere.apply(parse(DECLARED.replace("        search: [title, tags]\n", "")))

        async def gone() -> bool:
            return isinstance(await outcome(acme, "find", "articles", {"$search": "pear"}), CallError)

        await until(gone)
        assert await found(globex, "pear") == 1
