"""What every service over a store does, whatever the store: the conformance suite, with `test_service_reads` and `_writes`."""

from __future__ import annotations

from typing import Any

import pytest

from hooks.errors import BadRequest, Conflict, NotFound
from services.mongo import ServiceOptions
from services.query import Paginate
from tests.integration.services.conftest import ALL, HEX, MakeService, fill
from tests.integration.services.places import Ask


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
