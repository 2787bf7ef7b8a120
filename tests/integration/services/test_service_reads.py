"""How every service over a store finds records, whatever the store: part of the conformance suite."""

from __future__ import annotations

from typing import Any

import pytest

from hooks.errors import BadRequest, NotFound
from services import mongo
from services.query import Paginate
from tests.integration.services.conftest import ALL, HEX, MakeService, fill, names
from tests.integration.services.places import Ask


class TestFind:
    async def test_all_records(self, make: MakeService, ask: Ask) -> None:
        service = make()
        created = await fill(service, ask, "a", "b")
        assert await service.find(ask({"$sort": {"n": 1}})) == created

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ({"name": "Bob"}, ["Bob"]),
            ({"name": {"$in": ["Bob", "Ann"]}}, ["Ann", "Bob"]),
            ({"name": {"$nin": ["Bob", "Ann"]}}, ["Cay", "Dan"]),
            ({"n": {"$lt": 2}}, ["Ann", "Bob"]),
            ({"n": {"$lte": 2}}, ["Ann", "Bob", "Cay"]),
            ({"n": {"$gt": 2}}, ["Dan"]),
            ({"n": {"$gte": 2, "$lt": 3}}, ["Cay"]),
            ({"name": {"$ne": "Bob"}}, ["Ann", "Cay", "Dan"]),
            ({"$or": [{"name": "Bob"}, {"n": {"$gt": 2}}]}, ["Bob", "Dan"]),
            ({"$and": [{"n": {"$gt": 0}}, {"n": {"$lt": 2}}]}, ["Bob"]),
            ({"$or": [{"$and": [{"n": 0}, {"name": "Ann"}]}, {"$and": [{"$or": [{"n": 3}]}]}]}, ["Ann", "Dan"]),
            ({"n": {"$gt": 0}, "$and": [{"n": {"$lt": 3}}], "$or": [{"n": 1}, {"n": 2}]}, ["Bob", "Cay"]),
            ({"n": "1"}, []),
            ({"n": {"$gt": "0"}}, []),
            ({"missing": None}, ["Ann", "Bob", "Cay", "Dan"]),
            ({"missing": {"$ne": 1}}, ["Ann", "Bob", "Cay", "Dan"]),
            ({"_id": {"$in": []}}, []),
        ],
    )
    async def test_filters(self, make: MakeService, ask: Ask, query: Any, expected: list[str]) -> None:
        service = make()
        await fill(service, ask, "Ann", "Bob", "Cay", "Dan")
        assert await names(service, ask({**query, "$sort": {"name": 1}})) == expected

    async def test_nested_values_and_arrays(self, make: MakeService, ask: Ask) -> None:
        service = make()
        await service.create({"name": "a", "tags": ["x", "y"], "at": {"city": "Rome", "zip": 1}}, ask())
        await service.create({"name": "b", "tags": ["z"], "at": {"zip": 1, "city": "Rome"}}, ask())
        assert await names(service, ask({"tags": "y"})) == ["a"]
        assert await names(service, ask({"tags": ["z"]})) == ["b"]
        assert await names(service, ask({"at.city": "Rome", "$sort": {"name": -1}})) == ["b", "a"]
        assert await names(service, ask({"at": {"city": "Rome", "zip": 1}})) == ["a"]

    async def test_sort_limit_and_skip(self, make: MakeService, ask: Ask) -> None:
        service = make()
        await fill(service, ask, "b", "a", "b", "c")
        assert await names(service, ask({"$sort": {"name": 1, "n": -1}})) == ["a", "b", "b", "c"]
        found: Any = await service.find(ask({"$sort": {"name": "1", "n": "-1"}}))
        assert [record["n"] for record in found] == [1, 2, 0, 3]
        assert await names(service, ask({"$sort": {"n": -1}, "$limit": "2", "$skip": "1"})) == ["b", "a"]
        assert await service.find(ask({"$limit": 0})) == []

    async def test_equals_keep_their_order_from_page_to_page(self, make: MakeService, ask: Ask) -> None:
        service = make()
        for number in range(12):
            await service.create({"_id": f"{11 - number:02}", "name": f"{11 - number:02}", "same": 1}, ask())
        pages = [await names(service, ask({"$sort": {"same": 1}, "$limit": 5, "$skip": skip})) for skip in (0, 5, 10)]
        assert [name for page in pages for name in page] == [f"{number:02}" for number in range(12)]

    async def test_select(self, make: MakeService, ask: Ask) -> None:
        service = make()
        created: Any = await service.create(
            {"name": "a", "at": {"city": "Rome", "zip": 1}, "list": [{"x": 1, "y": 2}, 5, [{"x": 3}]]}, ask()
        )
        id = created["_id"]
        assert await service.find(ask({"$select": ["name"]})) == [{"_id": id, "name": "a"}]
        assert await service.find(ask({"$select": "name"})) == [{"_id": id, "name": "a"}]
        assert await service.find(ask({"$select": []})) == [{"_id": id}]
        assert await service.find(ask({"$select": ["at.city", "name.deep"]})) == [{"_id": id, "at": {"city": "Rome"}}]
        assert await service.find(ask({"$select": ["at.city", "at"]})) == [
            {"_id": id, "at": {"city": "Rome", "zip": 1}}
        ]
        assert await service.find(ask({"$select": ["list.x"]})) == [{"_id": id, "list": [{"x": 1}, [{"x": 3}]]}]
        assert await service.get(id, ask({"$select": ["name"]})) == {"_id": id, "name": "a"}

    async def test_by_id_in_every_position(self, make: MakeService, ask: Ask) -> None:
        service = make()
        for id in ("a", "b", HEX, "65a1b2c3d4e5f60718293a4f", 7):
            await service.create({"_id": id, "name": str(id)}, ask())
        order = {"$sort": {"_id": 1}}
        last = "65a1b2c3d4e5f60718293a4f"
        assert await names(service, ask(order)) == ["7", "a", "b", HEX, last]
        assert await names(service, ask({"$sort": {"_id": -1}})) == [last, HEX, "b", "a", "7"]
        assert await names(service, ask({"_id": HEX})) == [HEX]
        assert await names(service, ask({"_id": {"$in": ["a", HEX, 7.0, "none"]}, **order})) == ["7", "a", HEX]
        assert await names(service, ask({"_id": {"$nin": ["a", HEX]}, **order})) == ["7", "b", last]
        assert await names(service, ask({"_id": {"$ne": "a"}, **order})) == ["7", "b", HEX, last]
        assert await names(service, ask({"$or": [{"_id": "a"}, {"$and": [{"_id": HEX}]}], **order})) == ["a", HEX]
        # Text compares with text only, and generated ids with generated ids.
        assert await names(service, ask({"_id": {"$gt": "7"}, **order})) == ["a", "b"]
        assert await names(service, ask({"_id": {"$gte": "a"}, **order})) == ["a", "b"]
        assert await names(service, ask({"_id": {"$lt": "b"}, **order})) == ["7", "a"]
        assert await names(service, ask({"_id": {"$lte": last}, **order})) == [HEX, last]
        assert await names(service, ask({"_id": {"$gt": HEX}, **order})) == [last]
        assert await names(service, ask({"_id": {"$gt": "a", "$lt": last}, **order})) == []
        assert await names(service, ask({"_id": {"$gt": "7", "$lt": "b"}, **order})) == ["a"]

    async def test_prefixes_and_existence_where_they_are_offered(self, make: MakeService, ask: Ask) -> None:
        service = make(operators=frozenset({"$startsWith", "$exists"}))
        for name in ("a.b", "axb", "A.b", "ä", "a\nb", ""):
            await service.create({"name": name, **({"extra": 1} if name == "ä" else {})}, ask())
        assert await names(service, ask({"name": {"$startsWith": "a."}})) == ["a.b"]
        assert await names(service, ask({"name": {"$startsWith": "ä"}})) == ["ä"]
        assert await names(service, ask({"name": {"$startsWith": "a\n"}})) == ["a\nb"]
        assert await names(service, ask({"extra": {"$exists": True}})) == ["ä"]
        assert await names(service, ask({"_id": {"$startsWith": "a"}})) == []
        with pytest.raises(BadRequest, match=r"Invalid query parameter \$exists"):
            await make().find(ask({"extra": {"$exists": True}}))

    @pytest.mark.parametrize(
        "query",
        [
            {"$where": "1"}, {"n": {"$where": "1"}}, {"n": {"$in": [{"$gt": 1}]}}, {"$skip": -1}, {"$sort": {"n": 2}},
            {"_id": {"$regex": "x"}}, {"_id": {"a": "globex", "i": "x"}}, {"_id": ["x"]}, {"_id": None},
            {"$or": []}, {"n": 2**63},
        ],
    )  # fmt: skip
    async def test_what_is_not_allowed(self, make: MakeService, ask: Ask, query: Any) -> None:
        with pytest.raises(BadRequest):
            await make(multi=ALL).find(ask(query))
        with pytest.raises(BadRequest):
            await make(multi=ALL).remove(None, ask(query))

    async def test_hidden_fields_answer_only_the_server_itself(self, make: MakeService, ask: Ask) -> None:
        service = make(hidden=frozenset({"secret"}))
        await service.create({"name": "a", "secret": "x"}, ask())
        for query in ({"secret": "x"}, {"$sort": {"secret": 1}}, {"$select": ["secret"]}, {"$or": [{"secret": "x"}]}):
            with pytest.raises(BadRequest, match="Invalid query parameter secret"):
                await service.find(ask(query))
        assert await names(service, ask({"secret": "x"}, provider=None)) == ["a"]

    async def test_without_pages_there_is_still_a_bound(
        self, make: MakeService, ask: Ask, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(mongo, "MAX_RECORDS", 3)
        service = make(multi=ALL)
        await fill(service, ask, "a", "b", "c")
        assert await names(service, ask({"$sort": {"n": 1}})) == ["a", "b", "c"]
        await fill(service, ask, "d")
        assert len(await names(service, ask({"$limit": 2}))) == 2
        for call in (service.find(ask()), service.patch(None, {"n": 1}, ask()), service.remove(None, ask())):
            with pytest.raises(BadRequest, match="More than"):
                await call
        with pytest.raises(BadRequest, match="More than"):
            await service.create([{}] * 4, ask())


class TestPages:
    @pytest.mark.parametrize(
        ("query", "page"),
        [
            ({}, (5, 2, 0, ["a", "b"])),
            ({"$limit": 3}, (5, 3, 0, ["a", "b", "c"])),
            ({"$limit": 4}, (5, 3, 0, ["a", "b", "c"])),
            ({"$limit": -1}, (5, 2, 0, ["a", "b"])),
            ({"$limit": "x"}, (5, 2, 0, ["a", "b"])),
            ({"$limit": 0}, (5, 0, 0, [])),
            ({"$limit": 0, "n": {"$gt": 1}}, (3, 0, 0, [])),
            ({"$skip": 4}, (5, 2, 4, ["e"])),
            ({"$skip": 3}, (5, 2, 3, ["d", "e"])),
            ({"$skip": 9}, (5, 2, 9, [])),
            ({"name": "c"}, (1, 2, 0, ["c"])),
            ({"name": "z"}, (0, 2, 0, [])),
            ({"n": {"$gte": 3}}, (2, 2, 0, ["d", "e"])),
        ],
    )
    async def test_a_page(self, make: MakeService, ask: Ask, query: Any, page: Any) -> None:
        service = make(paginate=Paginate(2, 3))
        await fill(service, ask, *"abcde")
        found: Any = await service.find(ask({**query, "$sort": {"n": 1}}))
        assert (found["total"], found["limit"], found["skip"], [record["name"] for record in found["data"]]) == page


class TestGet:
    async def test_by_id(self, make: MakeService, ask: Ask) -> None:
        service = make()
        created: Any = await service.create({"name": "a"}, ask())
        assert await service.get(created["_id"], ask()) == created
        assert await service.get(str(created["_id"]), ask()) == created

    async def test_id_and_query_must_both_match(self, make: MakeService, ask: Ask) -> None:
        service = make()
        a, b = await fill(service, ask, "a", "b")
        assert await service.get(a["_id"], ask({"name": "a"})) == a
        for query in ({"name": "b"}, {"_id": b["_id"]}, {"$or": [{"_id": b["_id"]}]}, {"_id": {"$ne": a["_id"]}}):
            with pytest.raises(NotFound, match=f"^No record found for id '{a['_id']}'$"):
                await service.get(a["_id"], ask(query))

    @pytest.mark.parametrize(
        "id",
        [
            None, True, "", "x" * 257, [], ["x"], {},
            {"$gt": ""}, {"$ne": "z"}, {"$in": ["x"]}, {"$nin": []}, {"$exists": True},
            {"$regex": ""}, {"a": "acme", "i": "x"},
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("field", ["_id", "customid"])
    async def test_what_is_no_id(self, make: MakeService, ask: Ask, id: Any, field: str) -> None:
        service = make(id=field)
        kept: Any = await service.create({field: "x"}, ask())
        calls: list[Any] = [service.get(id, ask()), service.update(id, {}, ask())]
        if id is not None:
            calls += [service.patch(id, {"n": 1}, ask()), service.patch(id, {}, ask()), service.remove(id, ask())]
        for call in calls:
            with pytest.raises(BadRequest):
                await call
        assert await service.find(ask()) == [kept]

    @pytest.mark.parametrize("id", [HEX, "none", 7, "$where"])
    async def test_no_such_record(self, make: MakeService, ask: Ask, id: Any) -> None:
        service = make()
        for call in (
            service.get(id, ask()),
            service.update(id, {}, ask()),
            service.patch(id, {"n": 1}, ask()),
            service.patch(id, {}, ask()),
            service.remove(id, ask()),
        ):
            with pytest.raises(NotFound) as caught:
                await call
            assert caught.value.message == f"No record found for id '{id}'"
