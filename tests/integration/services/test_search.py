"""`$search`: words of the declared fields, by a text index that many apps share and none is hindered by."""

from __future__ import annotations

from typing import Any

import pytest

from hooks.errors import BadRequest, NotFound
from services.isolation import Isolation
from services.memory import MemoryService
from services.mongo import MongoService, ServiceOptions
from services.query import Paginate
from services.update import UPDATE_OPERATORS
from tests.integration.services.places import Ask, Places

OFFERED = frozenset({"$search"})


def options(*fields: str, **others: Any) -> ServiceOptions:
    return ServiceOptions("todos", search=fields, operators=OFFERED, **others)


@pytest.fixture
def isolation(placed: Places) -> Isolation:
    return placed.isolation


async def words(service: MongoService, ask: Ask, text: str, **query: Any) -> list[str]:
    found: Any = await service.find(ask({"$search": text, "$sort": {"name": 1}, **query}))
    return [record["name"] for record in found]


async def test_words_are_found_in_the_declared_fields_alone(isolation: Isolation, ask: Ask) -> None:
    service = MongoService(isolation, options("title", "tags"))
    await service.create({"name": "a", "title": "The quick brown Fox", "tags": ["red"], "body": "secret"}, ask())
    await service.create({"name": "b", "title": "Crème brûlée", "tags": ["brown", "sweet"], "language": "xx"}, ask())
    assert await words(service, ask, "fox") == ["a"]
    assert await words(service, ask, "FOX sweet") == ["a", "b"]
    assert await words(service, ask, "the") == ["a"]
    assert await words(service, ask, "creme") == ["b"]
    assert await words(service, ask, "brown -fox") == ["b"]
    assert await words(service, ask, '"quick brown"') == ["a"]
    for none in ("secret", "fo", "foxes", "none", "-fox", "$where", "(a+)+$", "{}"):
        assert await words(service, ask, none) == []
    assert await words(service, ask, "brown", name="b") == ["b"]
    record: Any = await service.find(ask({"$search": "fox"}))
    assert record == [
        {"_id": record[0]["_id"], "name": "a", "title": "The quick brown Fox", "tags": ["red"], "body": "secret"}
    ]


async def test_words_follow_every_change(isolation: Isolation, ask: Ask) -> None:
    service = MongoService(
        isolation, options("title", "tags", updates=frozenset(UPDATE_OPERATORS), multi=frozenset({"patch", "remove"}))
    )
    await service.create({"_id": "x", "name": "a", "title": "one"}, ask())
    steps: list[tuple[dict[str, Any], str, str]] = [
        ({"title": "two"}, "two", "one"),
        ({"$set": {"title": "three"}}, "three", "two"),
        ({"$push": {"tags": "four"}}, "four", "two"),
        ({"$addToSet": {"tags": {"$each": ["five", "six"]}}}, "five", "two"),
        ({"$pull": {"tags": "five"}}, "six", "five"),
        ({"$set": {"tags.0": "seven"}}, "seven", "four"),
        ({"$unset": {"title": True}}, "six", "three"),
        ({"title": "eight", "$push": {"tags": {"$each": ["nine"], "$slice": -1}}}, "eight nine", "six"),
    ]
    for data, found, gone in steps:
        await service.patch("x", data, ask())
        assert await words(service, ask, found) == ["a"], data
        assert await words(service, ask, gone) == [], data
    await service.patch(None, {"title": "ten"}, ask({"$search": "eight"}))
    assert await words(service, ask, "ten") == ["a"]
    await service.update("x", {"name": "b", "title": "eleven"}, ask())
    assert (await words(service, ask, "ten"), await words(service, ask, "eleven")) == ([], ["b"])
    await service.remove(None, ask({"$search": "eleven"}))
    assert await service.find(ask()) == []


async def test_words_restrict_every_method(isolation: Isolation, ask: Ask) -> None:
    service = MongoService(isolation, options("title", multi=frozenset({"patch", "remove"})))
    for id, title in (("x", "one two"), ("y", "one"), ("z", "three")):
        await service.create({"_id": id, "name": id, "title": title}, ask())
    for call in (
        service.get("z", ask({"$search": "one"})),
        service.patch("z", {"n": 1}, ask({"$search": "one"})),
        service.update("z", {}, ask({"$search": "one"})),
        service.remove("z", ask({"$search": "one"})),
    ):
        with pytest.raises(NotFound):
            await call
    assert (await service.get("x", ask({"$search": "two"})))["name"] == "x"
    patched: Any = await service.patch(None, {"n": 1}, ask({"$search": "one", "$sort": {"name": -1}}))
    assert [record["_id"] for record in patched] == ["y", "x"]
    removed: Any = await service.remove(None, ask({"$search": "one", "name": "y"}))
    assert [record["_id"] for record in removed] == ["y"]


async def test_apps_search_in_fields_of_their_own(isolation: Isolation, ask: Ask, other: Ask) -> None:
    one, two = MongoService(isolation, options("title")), MongoService(isolation, options("body", "title"))
    for service, caller in ((one, ask), (two, other)):
        await service.create({"name": "a", "title": "apple", "body": "pear"}, caller())
        await service.create({"name": "b", "title": "plum", "body": "apple"}, caller())
    assert await words(one, ask, "apple") == ["a"]
    assert await words(two, other, "apple") == ["a", "b"]
    assert await words(one, ask, "pear") == []
    assert await words(two, other, "pear") == ["a"]
    removed: Any = await two.find(other({"$search": "plum"}))
    assert len(removed) == 1


async def test_pages_of_what_was_found(isolation: Isolation, ask: Ask) -> None:
    service = MongoService(isolation, options("title", paginate=Paginate(2, 5)))
    for number in range(5):
        await service.create({"n": number, "title": "word" if number else "other"}, ask())
    query = {"$search": "word", "$sort": {"n": 1}}
    first: Any = await service.find(ask({**query, "$cursor": True}))
    assert (first["total"], [record["n"] for record in first["data"]]) == (4, [1, 2])
    second: Any = await service.find(ask({**query, "$after": first["cursor"]["next"]}))
    assert [record["n"] for record in second["data"]] == [3, 4]


@pytest.mark.parametrize(
    "text", ["", "  ", None, 5, True, ["a"], {"$gt": ""}, {"$search": "a"}, "x" * 257, "a\0", "\ud800"]
)
async def test_what_is_no_search(isolation: Isolation, ask: Ask, text: Any) -> None:
    with pytest.raises(BadRequest):
        await MongoService(isolation, options("title")).find(ask({"$search": text}))


async def test_only_where_it_is_offered_and_only_at_the_top(isolation: Isolation, ask: Ask) -> None:
    for service in (
        MongoService(isolation, ServiceOptions("todos", search=("title",))),
        MemoryService(ServiceOptions("t")),
    ):
        with pytest.raises(BadRequest, match=r"Invalid filter value \$search"):
            await service.find(ask({"$search": "a"}))
    offered = MongoService(isolation, options("title"))
    for query in (
        {"$or": [{"$search": "a"}]}, {"$and": [{"$search": "a"}]}, {"title": {"$search": "a"}}, {"$text": {"$search": "a"}},
    ):  # fmt: skip
        with pytest.raises(BadRequest, match="Invalid"):
            await offered.find(ask(query))


async def test_without_a_database_it_says_so(ask: Ask) -> None:
    with pytest.raises(BadRequest, match="needs a database"):
        await MemoryService(options("title")).find(ask({"$search": "a"}))


def test_hidden_fields_are_not_searched() -> None:
    with pytest.raises(ValueError, match="hidden"):
        options("password", hidden=frozenset({"password"}))
    with pytest.raises(ValueError, match="fields to look in"):
        options()
