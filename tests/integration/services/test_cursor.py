"""Pages by cursor: together they are the whole list in its order, whatever its values are, in both directions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest
from bson import ObjectId
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hooks.errors import BadRequest
from services.isolation import Isolation
from services.memory import MemoryService
from services.mongo import MongoService, ServiceOptions
from services.query import Paginate
from tests.integration.services.conftest import MakeService
from tests.integration.services.places import Ask, asker, places

PAGES = Paginate(3, 50)
SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, -1, 1.0, 1.5, 2**53, 2**53 + 1, float(2**53)]),
    st.sampled_from(["", "a", "ab", "b", "é"]),
    st.sampled_from([ObjectId("0" * 24), ObjectId("f" * 24)]),
    st.sampled_from([datetime(2026, 1, 1, tzinfo=UTC), datetime(1960, 1, 1, tzinfo=UTC)]),
)
# Lists have no place in an order, except deep inside of what is compared as a whole.
values = scalars | st.fixed_dictionaries({}, optional={"x": scalars, "y": scalars | st.lists(scalars, max_size=2)})
ids = st.sampled_from(["a", "b", "c", "d", "~", "0", *(f"{number:024x}" for number in (0, 1, 2**60))])
records = st.lists(
    st.builds(
        lambda id, fields: {"_id": id, **fields}, ids, st.dictionaries(st.sampled_from(["a", "b"]), values, max_size=2)
    ),
    min_size=1,
    max_size=9,
    unique_by=lambda record: record["_id"],
)
sorts = st.dictionaries(st.sampled_from(["a", "b", "a.x", "_id"]), st.sampled_from([1, -1]), max_size=3)


async def walk(service: MongoService, ask: Ask, query: dict[str, Any], key: str, cursor: str | None) -> list[list[Any]]:
    """The pages from a cursor on, in the order in which they are turned."""
    pages = []
    while cursor is not None:
        page: Any = await service.find(ask({**query, key: cursor}))
        pages.append(page["data"])
        cursor = page["cursor"]["next" if key == "$after" else "previous"]
    return pages


async def check(service: MongoService, ask: Ask, sort: dict[str, int], limit: int) -> None:
    # Every list of a client ends with the id; without a sort a list by cursor is in its order.
    whole = {**sort, **({} if "_id" in sort else {"_id": [*sort.values(), 1][len(sort) - 1 if sort else 0]})}
    everything: Any = await service.find(ask({"$sort": whole, "$limit": 50}))
    query: dict[str, Any] = {"$limit": limit, **({"$sort": sort} if sort else {})}
    first: Any = await service.find(ask({**query, "$cursor": True}))
    assert first["cursor"]["previous"] is None
    assert first["total"] == len(everything["data"])
    forth = [first["data"], *await walk(service, ask, query, "$after", first["cursor"]["next"])]
    assert [record for page in forth for record in page] == everything["data"]
    assert all(len(page) == limit for page in forth[:-1])
    if len(forth) > 1:
        last: Any = await service.find(ask({**query, "$after": await self_cursor(service, ask, query, len(forth) - 1)}))
        back = await walk(service, ask, query, "$before", last["cursor"]["previous"])
        assert [record for page in [last["data"], *back][::-1] for record in page] == everything["data"]


async def self_cursor(service: MongoService, ask: Ask, query: dict[str, Any], turns: int) -> str:
    """The cursor by which the page after so many turns is asked for."""
    page: Any = await service.find(ask({**query, "$cursor": True}))
    for _ in range(turns - 1):
        page = await service.find(ask({**query, "$after": page["cursor"]["next"]}))
    cursor: str = page["cursor"]["next"]
    return cursor


@SETTINGS
@given(records, sorts, st.integers(1, 4))
async def test_the_pages_are_the_list_in_memory(records: Any, sort: dict[str, int], limit: int) -> None:
    service = MemoryService(ServiceOptions("todos", paginate=PAGES))
    ask = asker("acme")
    for record in records:
        await service.create(record, ask())
    await check(service, ask, sort, limit)


@SETTINGS
@given(records, sorts, st.integers(1, 4))
def test_the_pages_are_the_list_in_mongodb(runner: Any, records: Any, sort: dict[str, int], limit: int) -> None:
    runner(records, sort, limit)


@pytest.fixture(scope="module")
def runner(mongod: str) -> Any:
    """Runs the check on one deployment, for which Hypothesis has no loop to spare."""
    with asyncio.Runner() as loop:
        ask = asker("acme")
        block = places(mongod, [ask])
        isolation = loop.run(block.__aenter__()).isolation
        service = MongoService(isolation, ServiceOptions("todos", paginate=PAGES))

        async def run(records: Any, sort: dict[str, int], limit: int) -> None:
            await isolation.collection(ask().tenant, "todos").delete_many({})
            for record in records:
                await service.create(record, ask())
            await check(service, ask, sort, limit)

        yield lambda *arguments: loop.run(run(*arguments))
        loop.run(block.__aexit__(None, None, None))


async def fill(service: MongoService, ask: Ask, count: int) -> None:
    for number in range(count):
        await service.create({"_id": f"{number:02}", "n": number // 2, "text": "x"}, ask())


async def test_a_page_tells_where_its_neighbours_begin(make: MakeService, ask: Ask) -> None:
    service = make(paginate=PAGES)
    await fill(service, ask, 5)
    first: Any = await service.find(ask({"$sort": {"n": -1}, "$cursor": "true"}))
    assert {**first, "data": [record["_id"] for record in first["data"]], "cursor": None} == {
        "total": 5, "limit": 3, "skip": 0, "data": ["04", "03", "02"], "cursor": None,
    }  # fmt: skip
    assert first["cursor"]["previous"] is None
    second: Any = await service.find(ask({"$sort": {"n": -1}, "$after": first["cursor"]["next"]}))
    assert [record["_id"] for record in second["data"]] == ["01", "00"]
    assert second["cursor"]["next"] is None
    assert second["total"] == 5
    back: Any = await service.find(ask({"$sort": {"n": -1}, "$before": second["cursor"]["previous"]}))
    assert back["data"] == first["data"]
    assert back["cursor"] == first["cursor"]


async def test_nothing_is_repeated_or_missed_when_records_come_and_go(make: MakeService, ask: Ask) -> None:
    service = make(paginate=PAGES)
    await fill(service, ask, 7)
    first: Any = await service.find(ask({"$sort": {"_id": 1}, "$cursor": True}))
    await service.remove("02", ask())
    await service.create({"_id": "00a"}, ask())
    second: Any = await service.find(ask({"$sort": {"_id": 1}, "$after": first["cursor"]["next"]}))
    assert [record["_id"] for record in second["data"]] == ["03", "04", "05"]


async def test_the_envelope_is_the_usual_one_unless_cursors_are_asked_for(make: MakeService, ask: Ask) -> None:
    service = make(paginate=PAGES)
    await fill(service, ask, 1)
    usual = {"limit", "skip", "data"}
    rows: list[tuple[dict[str, Any], set[str]]] = [
        ({}, {"total"}), ({"$sort": {"n": 1}}, {"total"}), ({"$cursor": False}, {"total"}), ({"$total": True}, {"total"}),
        ({"$limit": 0}, {"total"}), ({"$total": False}, set()), ({"$total": "false", "$limit": 0}, set()),
        ({"$cursor": True}, {"total", "cursor"}), ({"$after": None}, {"total", "cursor"}),
        ({"$before": ""}, {"total", "cursor"}),
        ({"$cursor": True, "$limit": 0}, {"total", "cursor"}), ({"$cursor": True, "$total": False}, {"cursor"}),
    ]  # fmt: skip
    for query, more in rows:
        assert set(await service.find(ask(query))) == usual | more, query


async def test_a_count_that_is_not_wanted_is_not_made() -> None:
    ask = asker("acme", "shared")
    service = MongoService(Isolation(Uncounted()), ServiceOptions("todos", paginate=PAGES))
    for query in ({"$total": False}, {"$total": False, "$skip": 1}, {"$total": False, "$cursor": True}):
        await service.find(ask(query))
    with pytest.raises(AssertionError, match="counted"):
        await service.find(ask({"$skip": 1}))


T = TypeVar("T")


class Uncounted:
    """A store whose records are never counted."""

    async def transaction(self, work: Callable[[], Awaitable[T]]) -> T:
        return await work()

    def collection(self, namespace: Any) -> Any:
        return self

    async def find(self, filter: Any, **shape: Any) -> list[Any]:
        return []

    async def count(self, filter: Any) -> int:
        raise AssertionError("counted")


async def test_selected_fields_alone_leave(make: MakeService, ask: Ask) -> None:
    service = make(paginate=PAGES, id="key")
    for number in range(4):
        await service.create({"key": str(number), "at": {"n": number, "m": 1}, "text": "x"}, ask())
    query = {"$sort": {"at.n": 1}, "$select": ["text"]}
    page: Any = await service.find(ask({**query, "$cursor": True}))
    assert [set(record) for record in page["data"]] == [{"_id", "key", "text"}] * 3
    rest: Any = await service.find(ask({**query, "$select": ["at.m"], "$after": page["cursor"]["next"]}))
    assert [(record["key"], record["at"]) for record in rest["data"]] == [("3", {"m": 1})]
    rest = await service.find(ask({**query, "$select": ["at"], "$after": page["cursor"]["next"]}))
    assert rest["data"][0]["at"] == {"n": 3, "m": 1}


async def test_a_cursor_is_for_its_own_list(make: MakeService, ask: Ask, other: Ask) -> None:
    service = make(paginate=PAGES)
    await fill(service, ask, 5)
    await fill(service, other, 5)
    page: Any = await service.find(ask({"$sort": {"n": 1}, "$cursor": True}))
    cursor = page["cursor"]["next"]
    for query in ({}, {"$sort": {"n": -1}}, {"$sort": {"text": 1}}, {"$sort": {"n": 1, "text": 1}}):
        for key in ("$after", "$before"):
            with pytest.raises(BadRequest, match="another"):
                await service.find(ask({**query, key: cursor}))
    with pytest.raises(BadRequest, match="another list"):
        await service.find(other({"$sort": {"n": 1}, "$after": cursor}))
    # Another filter is the client's own affair: the cursor is a place in the order.
    rest: Any = await service.find(ask({"$sort": {"n": 1}, "n": 2, "$after": cursor}))
    assert [record["_id"] for record in rest["data"]] == ["04"]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"$after": 5}, "must be a cursor"), ({"$after": {"a": 1}}, "must be a cursor"), ({"$after": "x" * 9000}, "cursor"),
        ({"$before": ["x"]}, "must be a cursor"), ({"$after": "!!"}, "not a cursor"), ({"$after": "é"}, "not a cursor"),
        ({"$after": "AAAA"}, "not a cursor"), ({"$after": "A"}, "not a cursor"), ({"$cursor": 1}, "true or false"),
        ({"$total": "no"}, "true or false"), ({"$after": "x", "$before": "y"}, "cannot stand beside"),
        ({"$after": "x", "$skip": 1}, "cannot stand beside"),
    ],
)  # fmt: skip
async def test_what_is_no_cursor(make: MakeService, ask: Ask, query: Any, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        await make(paginate=PAGES).find(ask(query))


async def test_cursors_are_for_pages_of_find(make: MakeService, ask: Ask) -> None:
    with pytest.raises(BadRequest, match="pages"):
        await make().find(ask({"$cursor": True}))
    service = make(paginate=PAGES, multi=frozenset({"patch", "remove"}))
    await fill(service, ask, 2)
    page: Any = await service.find(ask({"$cursor": True, "$limit": 1}))
    for query in ({"$after": page["cursor"]["next"]}, {"$cursor": True}):
        for call in (
            service.get("00", ask(query)),
            service.patch(None, {"n": 9}, ask(query)),
            service.remove(None, ask(query)),
            service.update("00", {}, ask(query)),
        ):
            with pytest.raises(BadRequest, match="'find' alone"):
                await call
    assert (await service.find(ask()))["total"] == 2  # type: ignore[call-overload]


async def test_lists_have_no_place_in_an_order(make: MakeService, ask: Ask) -> None:
    service = make(paginate=PAGES)
    await service.create({"tags": ["a"], "at": [{"x": 1}]}, ask())
    for path in ("tags", "at.x"):
        with pytest.raises(BadRequest, match=f"'{path}' holds a list"):
            await service.find(ask({"$sort": {path: 1}, "$cursor": True}))
    await service.create({"tags": "x" * 20_000}, ask())
    with pytest.raises(BadRequest, match="too long"):
        await service.find(ask({"$sort": {"tags": -1}, "$cursor": True}))
