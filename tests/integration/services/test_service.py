"""What every service over a store does, whatever the store: the conformance suite of MemoryService and MongoService."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from bson import ObjectId

from hooks.context import Params
from hooks.errors import BadRequest, Conflict, MethodNotAllowed, NotFound
from services import mongo
from services.mongo import MongoService, ServiceOptions
from services.query import Paginate
from tests.integration.services.conftest import Ask, MakeService

ALL = frozenset({"create", "patch", "remove"})
HEX = "65a1b2c3d4e5f60718293a4b"


async def fill(service: MongoService, ask: Ask, *names: str) -> list[Any]:
    """Creates records `{name, n}`, n from 0 on; returns them."""
    return [await service.create({"name": name, "n": number}, ask()) for number, name in enumerate(names)]


async def names(service: MongoService, params: Params) -> list[str]:
    found: Any = await service.find(params)
    return [record["name"] for record in (found["data"] if isinstance(found, dict) else found)]


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


class TestCreate:
    async def test_one(self, make: MakeService, ask: Ask) -> None:
        service = make()
        data = {"name": "a", "deep": {"x": [1, None, True, 1.5]}}
        created: Any = await service.create(data, ask())
        assert isinstance(created["_id"], ObjectId)
        assert created == {"_id": created["_id"], **data}
        assert data == {"name": "a", "deep": {"x": [1, None, True, 1.5]}}
        assert await service.get(created["_id"], ask()) == created

    @pytest.mark.parametrize(("given", "kept"), [("mine", "mine"), (HEX, ObjectId(HEX)), (7, "7"), (None, None)])
    async def test_a_chosen_id_is_found_again(self, make: MakeService, ask: Ask, given: Any, kept: Any) -> None:
        service = make()
        created: Any = await service.create({"_id": given}, ask())
        if kept is not None:
            assert created["_id"] == kept
            assert await service.get(given, ask()) == created
        assert await service.get(str(created["_id"]), ask()) == created

    async def test_an_id_is_taken_once(self, make: MakeService, ask: Ask) -> None:
        service = make()
        await service.create({"_id": "x", "name": "a"}, ask())
        with pytest.raises(Conflict):
            await service.create({"_id": "x", "name": "b"}, ask())
        assert await names(service, ask()) == ["a"]

    @pytest.mark.parametrize("id", [{"$gt": ""}, ["x"], True, "", {"a": "globex", "i": "x"}, 1.5])
    async def test_what_is_no_id_is_not_kept(self, make: MakeService, ask: Ask, id: Any) -> None:
        for service, data in ((make(), {"_id": id}), (make(id="customid"), {"customid": id})):
            if id == 1.5 and service.id == "customid":
                continue
            with pytest.raises(BadRequest):
                await service.create(data, ask())
            assert await service.find(ask()) == []

    async def test_many(self, make: MakeService, ask: Ask) -> None:
        service = make(multi=ALL)
        created: Any = await service.create([{"name": "a"}, {"name": "b", "_id": "x"}], ask())
        assert [record["name"] for record in created] == ["a", "b"]
        assert await service.find(ask({"$sort": {"name": 1}})) == created
        assert await service.create([], ask()) == []

    async def test_many_only_where_they_are_allowed(self, make: MakeService, ask: Ask) -> None:
        service = make(multi=frozenset({"patch"}))
        many: list[Any] = [[], [{}]]
        for data in many:
            with pytest.raises(MethodNotAllowed, match=r"^Can not create multiple entries$"):
                await service.create(data, ask())
        assert await service.find(ask()) == []

    @pytest.mark.parametrize("data", [None, "text", 7, True, 1.5])
    async def test_data_is_an_object(self, make: MakeService, ask: Ask, data: Any) -> None:
        service = make(multi=ALL)
        kept: Any = await service.create({"name": "a"}, ask())
        for call in (
            service.create(data, ask()),
            service.create([{}, data], ask()),
            service.update(kept["_id"], data, ask()),
            service.patch(kept["_id"], data, ask()),
            service.patch(None, data, ask()),
        ):
            with pytest.raises(BadRequest, match="must be an object"):
                await call
        assert await service.find(ask()) == [kept]

    @pytest.mark.parametrize("key", ["$set", "$unset", "$where", "$rename", "$"])
    async def test_operators_are_no_data(self, make: MakeService, ask: Ask, key: str) -> None:
        service = make(multi=ALL)
        kept: Any = await service.create({"name": "a"}, ask())
        refused: list[dict[str, Any]] = [{key: {"name": "b"}}, {"n": 1, key: {"app_id": "globex"}}]
        for data in refused:
            for call in (
                service.create(data, ask()),
                service.update(kept["_id"], data, ask()),
                service.patch(kept["_id"], data, ask()),
                service.patch(None, data, ask()),
            ):
                with pytest.raises(BadRequest, match="Invalid key"):
                    await call
        assert await service.find(ask()) == [kept]

    async def test_the_query_says_nothing_about_new_records(self, make: MakeService, ask: Ask) -> None:
        created: Any = await make().create({"name": "a"}, ask({"name": "b", "$select": ["n"]}))
        assert created["name"] == "a"
        with pytest.raises(BadRequest):
            await make().create({"name": "a"}, ask({"$select": [{"$where": 1}]}))

    async def test_values_that_cannot_be_kept(self, make: MakeService, ask: Ask) -> None:
        for value in (2**64, {"a": object()}, "\ud800"):
            with pytest.raises(BadRequest):
                await make().create({"n": value}, ask())


class TestUpdate:
    async def test_replaces_the_whole_record_but_its_id(self, make: MakeService, ask: Ask) -> None:
        service = make()
        created: Any = await service.create({"name": "a", "n": 1}, ask())
        data = {"name": "b", "_id": "other"}
        updated = await service.update(created["_id"], data, ask())
        assert updated == {"_id": created["_id"], "name": "b"}
        assert await service.find(ask()) == [updated]
        assert data == {"name": "b", "_id": "other"}

    async def test_id_and_query_must_both_match(self, make: MakeService, ask: Ask) -> None:
        service = make()
        a, _ = await fill(service, ask, "a", "b")
        with pytest.raises(NotFound):
            await service.update(a["_id"], {"name": "c"}, ask({"name": "b"}))
        await service.update(a["_id"], {"name": "c"}, ask({"name": "a"}))
        assert sorted(await names(service, ask())) == ["b", "c"]

    @pytest.mark.parametrize(("id", "data"), [(None, {}), ("x", [{}]), (None, []), ("x", [])])
    async def test_many_are_never_replaced(self, make: MakeService, ask: Ask, id: Any, data: Any) -> None:
        with pytest.raises(BadRequest) as caught:
            await make(multi=ALL).update(id, data, ask())
        assert caught.value.message == "You can not replace multiple instances. Did you mean 'patch'?"


class TestPatch:
    async def test_sets_fields(self, make: MakeService, ask: Ask) -> None:
        service = make()
        created: Any = await service.create({"name": "a", "n": 1, "deep": {"x": 1, "y": 2}}, ask())
        data = {"n": 2, "deep": {"x": 3}, "_id": "other"}
        patched = await service.patch(created["_id"], data, ask({"$select": ["n"]}))
        assert patched == {"_id": created["_id"], "name": "a", "n": 2, "deep": {"x": 3}}
        assert await service.find(ask()) == [patched]
        assert data == {"n": 2, "deep": {"x": 3}, "_id": "other"}

    async def test_nothing_to_set(self, make: MakeService, ask: Ask) -> None:
        service = make(multi=ALL)
        created: Any = await service.create({"name": "a"}, ask())
        assert await service.patch(created["_id"], {}, ask({"$select": ["n"]})) == created
        assert await service.patch(created["_id"], {"_id": "other"}, ask()) == created
        assert await service.patch(None, {}, ask()) == [created]

    async def test_id_and_query_must_both_match(self, make: MakeService, ask: Ask) -> None:
        service = make()
        a, b = await fill(service, ask, "a", "b")
        for query in ({"name": "b"}, {"_id": b["_id"]}):
            with pytest.raises(NotFound):
                await service.patch(a["_id"], {"n": 9}, ask(query))
        assert await service.find(ask({"n": 9})) == []

    async def test_many_in_order_though_they_match_no_longer(self, make: MakeService, ask: Ask) -> None:
        service = make(multi=ALL, paginate=Paginate(1, 1))
        await fill(service, ask, *"abcd")
        patched: Any = await service.patch(
            None, {"n": 9}, ask({"n": {"$gt": 0}, "$sort": {"name": -1}, "$limit": 1, "$skip": 1, "$select": ["n"]})
        )
        assert [(record["name"], record["n"]) for record in patched] == [("d", 9), ("c", 9), ("b", 9)]
        assert (await service.get(patched[0]["_id"], ask()))["n"] == 9
        assert await service.patch(None, {"n": 1}, ask({"name": "z"})) == []

    async def test_many_in_batches(self, make: MakeService, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mongo, "BATCH", 2)
        service = make(multi=ALL)
        created: Any = await service.create([{"n": n} for n in range(5)], ask())
        patched: Any = await service.patch(None, {"done": True}, ask({"$sort": {"n": -1}}))
        assert patched == [{**record, "done": True} for record in reversed(created)]
        assert await service.remove(None, ask({"$sort": {"n": 1}})) == patched[::-1]
        assert await service.find(ask()) == []

    async def test_many_only_where_they_are_allowed(self, make: MakeService, ask: Ask) -> None:
        service = make(multi=frozenset({"create", "remove"}))
        await fill(service, ask, "a")
        with pytest.raises(MethodNotAllowed, match=r"^Can not patch multiple entries$"):
            await service.patch(None, {"name": "b"}, ask())
        assert await names(service, ask()) == ["a"]

    async def test_calls_at_once_lose_nothing(self, make: MakeService, ask: Ask) -> None:
        service = make()
        created: Any = await service.create({}, ask())
        await asyncio.gather(*(service.patch(created["_id"], {f"f{n}": n}, ask()) for n in range(10)))
        assert await service.get(created["_id"], ask()) == {"_id": created["_id"], **{f"f{n}": n for n in range(10)}}


class TestRemove:
    async def test_one(self, make: MakeService, ask: Ask) -> None:
        service = make()
        a, b = await fill(service, ask, "a", "b")
        assert await service.remove(str(a["_id"]), ask({"$select": ["n"]})) == a
        assert await service.find(ask()) == [b]
        with pytest.raises(NotFound):
            await service.remove(a["_id"], ask())

    async def test_id_and_query_must_both_match(self, make: MakeService, ask: Ask) -> None:
        service = make()
        a, b = await fill(service, ask, "a", "b")
        for query in ({"name": "b"}, {"_id": b["_id"]}):
            with pytest.raises(NotFound):
                await service.remove(a["_id"], ask(query))
        assert len(await names(service, ask())) == 2

    async def test_many(self, make: MakeService, ask: Ask) -> None:
        service = make(multi=ALL, paginate=Paginate(1, 1))
        created = await fill(service, ask, *"abcd")
        query = {"n": {"$lt": 3}, "$sort": {"n": -1}, "$limit": 1, "$select": ["n"]}
        assert await service.remove(None, ask(query)) == created[2::-1]
        assert await names(service, ask()) == ["d"]
        assert await service.remove(None, ask({"name": "z"})) == []

    async def test_many_only_where_they_are_allowed(self, make: MakeService, ask: Ask) -> None:
        service = make(multi=frozenset({"create", "patch"}))
        await fill(service, ask, "a")
        with pytest.raises(MethodNotAllowed, match=r"^Can not remove multiple entries$"):
            await service.remove(None, ask())
        assert await names(service, ask()) == ["a"]

    async def test_a_record_is_removed_once_however_many_ask(self, make: MakeService, ask: Ask) -> None:
        service = make()
        created: Any = await service.create({}, ask())
        calls = (service.remove(created["_id"], ask()) for _ in range(10))
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [answer for answer in answers if not isinstance(answer, NotFound)] == [created]


class TestCustomId:
    async def test_is_generated_as_text(self, make: MakeService, ask: Ask) -> None:
        service = make(id="customid")
        created: Any = await service.create({"name": "a"}, ask())
        assert isinstance(created["customid"], str)
        assert len(created["customid"]) == 24
        assert await service.get(created["customid"], ask()) == created

    async def test_is_kept_whatever_is_written(self, make: MakeService, ask: Ask) -> None:
        service = make(id="customid")
        created: Any = await service.create({"name": "a", "customid": "x"}, ask())
        kept = {"_id": created["_id"], "customid": "x"}
        assert await service.update("x", {"name": "b", "customid": "y"}, ask()) == {**kept, "name": "b"}
        assert await service.patch("x", {"name": "c", "customid": "y"}, ask()) == {**kept, "name": "c"}
        assert await service.patch("x", {"customid": "y"}, ask()) == {**kept, "name": "c"}
        assert await service.find(ask({"$select": ["name"]})) == [{**kept, "name": "c"}]
        assert await service.remove("x", ask({"customid": "x"})) == {**kept, "name": "c"}

    async def test_id_and_query_must_both_match(self, make: MakeService, ask: Ask) -> None:
        service = make(id="customid")
        await service.create({"customid": "x"}, ask())
        for query in ({"customid": "y"}, {"_id": "x"}, {"customid": {"$ne": "x"}}):
            with pytest.raises(NotFound):
                await service.get("x", ask(query))

    async def test_numbers_stay_numbers(self, make: MakeService, ask: Ask) -> None:
        service = make(id="customid")
        await service.create({"customid": 7}, ask())
        assert (await service.get(7, ask()))["customid"] == 7
        with pytest.raises(NotFound):
            await service.get("7", ask())

    async def test_is_unique(self, make: MakeService, ask: Ask, other: Ask) -> None:
        service = make(id="customid")
        await service.create({"customid": "x"}, ask())
        with pytest.raises(Conflict) as caught:
            await service.create({"customid": "x"}, ask())
        assert caught.value.message == "A record with this customid exists already."
        assert caught.value.data is None
        await service.create({"customid": "x"}, other())

    async def test_many(self, make: MakeService, ask: Ask) -> None:
        service = make(id="customid", multi=ALL)
        await service.create([{"customid": "x"}, {"customid": "y"}], ask())
        patched: Any = await service.patch(None, {"n": 1, "customid": "z"}, ask({"$sort": {"customid": -1}}))
        assert [record["customid"] for record in patched] == ["y", "x"]
        removed: Any = await service.remove(None, ask({"$sort": {"customid": 1}}))
        assert [record["customid"] for record in removed] == ["x", "y"]


class TestTenants:
    """Without any hook: what one tenant does and sees never depends on the other."""

    FOREIGN: Any = [
        {"app_id": "globex"}, {"app_id": {"$ne": "acme"}}, {"app_id": {"$in": ["globex"]}}, {"$or": [{"app_id": "globex"}]},
        {"$and": [{"app_id": "globex"}]}, {"_id": {"a": "globex", "i": "x"}}, {"_id.a": "globex"}, {"app_id.x": 1},
        {"_id": {"$in": [{"a": "globex", "i": "x"}]}}, {"_id": {"$gt": {"a": "globex"}}},
    ]  # fmt: skip

    async def test_find_and_count(self, make: MakeService, ask: Ask, other: Ask) -> None:
        service = make(paginate=Paginate(10, 10))
        await fill(service, ask, "a", "b")
        await fill(service, other, "c")
        for query in (
            {}, {"name": {"$ne": "a"}}, {"$or": [{"name": "a"}, {"name": "c"}]}, {"$or": [{}, {"name": "c"}]},
            {"$limit": 0}, {"_id": {"$nin": ["z"]}}, {"_id": {"$ne": "z"}}, {"_id": {"$gt": "0" * 24}},
            {"$sort": {"_id": -1}}, {"$skip": 1},
        ):  # fmt: skip
            found: Any = await service.find(other(query))
            assert found["total"] <= 1
            assert {record["name"] for record in found["data"]} <= {"c"}
        found = await service.find(other({"_id": {"$gt": "0" * 24}}))
        assert found["total"] == 1

    async def test_one_cannot_reach_the_others_records_by_id(self, make: MakeService, ask: Ask, other: Ask) -> None:
        service = make()
        a: Any = await service.create({"name": "a"}, ask())
        for call in (
            service.get(a["_id"], other()),
            service.get(a["_id"], other({"$or": [{"name": "a"}]})),
            service.update(a["_id"], {"name": "z"}, other()),
            service.patch(a["_id"], {"name": "z"}, other()),
            service.patch(a["_id"], {}, other()),
            service.remove(a["_id"], other()),
        ):
            with pytest.raises(NotFound, match=f"^No record found for id '{a['_id']}'$"):
                await call
        assert await service.get(a["_id"], ask()) == a

    async def test_one_cannot_reach_the_others_records_by_custom_id(
        self, make: MakeService, ask: Ask, other: Ask
    ) -> None:
        service = make(id="customid")
        a: Any = await service.create({"customid": "x", "name": "a"}, ask())
        for call in (
            service.get("x", other()),
            service.update("x", {"name": "z"}, other()),
            service.patch("x", {"name": "z"}, other()),
            service.remove("x", other()),
        ):
            with pytest.raises(NotFound):
                await call
        assert await service.get("x", ask()) == a

    async def test_many(self, make: MakeService, ask: Ask, other: Ask) -> None:
        service = make(multi=ALL)
        mine = await fill(service, ask, "a", "b")
        await fill(service, other, "c")
        patched: Any = await service.patch(None, {"n": 9}, other({"name": {"$ne": "z"}}))
        assert [record["name"] for record in patched] == ["c"]
        removed: Any = await service.remove(None, other({"_id": {"$nin": ["z"]}}))
        assert [record["name"] for record in removed] == ["c"]
        ids = [record["_id"] for record in mine]
        assert await service.remove(None, other({"_id": {"$in": ids}})) == []
        assert await service.find(ask({"$sort": {"n": 1}})) == mine

    async def test_the_same_id_is_free_to_both(self, make: MakeService, ask: Ask, other: Ask) -> None:
        service = make()
        for id in ("x", HEX):
            await service.create({"_id": id, "name": "a"}, ask())
            await service.create({"_id": id, "name": "c"}, other())
            assert (await service.get(id, ask()))["name"] == "a"
            await service.remove(id, ask())
            assert (await service.get(id, other()))["name"] == "c"

    @pytest.mark.parametrize("query", FOREIGN)
    async def test_no_query_names_the_other(self, make: MakeService, ask: Ask, other: Ask, query: Any) -> None:
        service = make(multi=ALL)
        kept = await fill(service, other, "c")
        for call in (
            service.find(ask(query)),
            service.get(kept[0]["_id"], ask(query)),
            service.update(kept[0]["_id"], {}, ask(query)),
            service.patch(None, {"n": 9}, ask(query)),
            service.remove(None, ask(query)),
        ):
            with pytest.raises(BadRequest):
                await call
        assert await service.find(other()) == kept

    async def test_no_data_names_the_other(self, make: MakeService, ask: Ask, other: Ask) -> None:
        service = make(multi=ALL)
        kept: Any = await service.create({"name": "a"}, ask())
        for data in ({"app_id": "globex"}, {"app_id": None}, {"app_id": {"x": 1}}):
            for call in (
                service.create(data, ask()),
                service.create([{}, data], ask()),
                service.update(kept["_id"], data, ask()),
                service.patch(kept["_id"], data, ask()),
                service.patch(None, data, ask()),
            ):
                with pytest.raises(BadRequest, match="app_id"):
                    await call
        for data in ({"app_id.x": "globex"}, {"_id.a": "globex"}):
            with pytest.raises(BadRequest):
                await service.patch(kept["_id"], data, ask())
        assert await service.find(ask()) == [kept]
        assert await service.find(other()) == []

    async def test_ones_own_name_in_data_is_taken_for_granted(self, make: MakeService, ask: Ask) -> None:
        service = make(multi=ALL)
        own = {"app_id": ask().tenant.id}
        created: Any = await service.create({"name": "a", **own}, ask({"$and": [own]}))
        assert created == {"_id": created["_id"], "name": "a"}
        assert await service.patch(created["_id"], {"n": 1, **own}, ask()) == {**created, "n": 1}
        assert await service.update(created["_id"], {"n": 2, **own}, ask()) == {"_id": created["_id"], "n": 2}
        assert await service.find(ask({"$and": [own, {"n": 2}]})) == [{"_id": created["_id"], "n": 2}]


@pytest.mark.parametrize("options", [{"multi": frozenset({"update"})}, {"operators": frozenset({"$regex"})}])
def test_options_that_no_service_has_are_refused(make: MakeService, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - either class names the option.
        make(**options)


def test_a_service_tells_its_id_field() -> None:
    assert ServiceOptions("todos").id == "_id"
