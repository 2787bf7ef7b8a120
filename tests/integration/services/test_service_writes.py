"""How every service over a store writes records, whatever the store: part of the conformance suite."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from bson import ObjectId

from hooks.errors import BadRequest, Conflict, MethodNotAllowed, NotFound
from services import mongo
from services.query import Paginate
from tests.integration.services.conftest import ALL, HEX, MakeService, fill, names
from tests.integration.services.places import Ask


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

    @pytest.mark.parametrize("taken", range(5))
    async def test_of_many_all_are_created_or_none(
        self, make: MakeService, ask: Ask, taken: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(mongo, "BATCH", 2)
        service = make(multi=ALL)
        await service.create({"_id": "2", "name": "there before"}, ask())
        with pytest.raises(Conflict):
            await service.create([{"_id": str(number - taken + 2), "name": "new"} for number in range(5)], ask())
        assert await names(service, ask()) == ["there before"]
        await service.create([{"_id": f"x{number}", "name": "new"} for number in range(5)], ask())
        assert len(await names(service, ask({"name": "new"}))) == 5

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

    @pytest.mark.parametrize("taken", range(5))
    async def test_of_many_all_are_created_or_none(
        self, make: MakeService, ask: Ask, taken: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(mongo, "BATCH", 2)
        service = make(multi=ALL)
        await service.create({"_id": "2", "name": "there before"}, ask())
        with pytest.raises(Conflict):
            await service.create([{"_id": str(number - taken + 2), "name": "new"} for number in range(5)], ask())
        assert await names(service, ask()) == ["there before"]
        await service.create([{"_id": f"x{number}", "name": "new"} for number in range(5)], ask())
        assert len(await names(service, ask({"name": "new"}))) == 5

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

    @pytest.mark.parametrize("taken", range(5))
    async def test_of_many_all_are_created_or_none(
        self, make: MakeService, ask: Ask, taken: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(mongo, "BATCH", 2)
        service = make(multi=ALL)
        await service.create({"_id": "2", "name": "there before"}, ask())
        with pytest.raises(Conflict):
            await service.create([{"_id": str(number - taken + 2), "name": "new"} for number in range(5)], ask())
        assert await names(service, ask()) == ["there before"]
        await service.create([{"_id": f"x{number}", "name": "new"} for number in range(5)], ask())
        assert len(await names(service, ask({"name": "new"}))) == 5

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
