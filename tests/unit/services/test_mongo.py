from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import pytest

from hooks.context import Params
from hooks.errors import BadRequest
from hooks.tenant import Tenant
from services.isolation import Isolation
from services.memory import MemoryCollection
from services.mongo import MongoService, ServiceOptions
from services.store import Collection, Filter, Namespace

ACME = Tenant("acme", "Acme")

T = TypeVar("T")


class Overtaken(MemoryCollection):
    """A collection in which another call comes between what is found and what is then written."""

    def __init__(self) -> None:
        super().__init__(Namespace("roost", "todos"))
        self.first: Callable[[], Awaitable[object]] | None = None

    async def transaction(self, work: Callable[[], Awaitable[T]]) -> T:
        return await work()

    def collection(self, namespace: Namespace) -> Collection:
        assert namespace == self.namespace
        return self

    async def update_many(self, filter: Filter, update: Mapping[str, Any]) -> int:
        await self._overtake()
        return await super().update_many(filter, update)

    async def delete_many(self, filter: Filter) -> int:
        await self._overtake()
        return await super().delete_many(filter)

    async def _overtake(self) -> None:
        if self.first is not None:
            await self.first()


@pytest.fixture
async def collection() -> Overtaken:
    return Overtaken()


@pytest.fixture
async def service(collection: Overtaken) -> MongoService:
    service = MongoService(
        Isolation(collection), ServiceOptions("todos", multi=frozenset({"create", "patch", "remove"}))
    )
    await service.create([{"_id": id, "owner": "ann"} for id in "abc"], asked())
    return service


def asked(query: dict[str, Any] | None = None) -> Params:
    return Params(tenant=ACME, query=query or {}, provider="rest")


def give_to_bob(service: MongoService) -> Callable[[], Awaitable[object]]:
    return lambda: service.patch("b", {"owner": "bob"}, asked())


async def test_patching_many_spares_what_has_left_the_query(collection: Overtaken, service: MongoService) -> None:
    collection.first = give_to_bob(service)
    await service.patch(None, {"done": True}, asked({"owner": "ann"}))
    assert await service.get("b", asked()) == {"_id": "b", "owner": "bob"}
    assert (await service.get("a", asked()))["done"]


async def test_removing_many_spares_what_has_left_the_query(collection: Overtaken, service: MongoService) -> None:
    collection.first = give_to_bob(service)
    removed: Any = await service.remove(None, asked({"owner": "ann", "$sort": {"_id": 1}}))
    assert [record["_id"] for record in removed] == ["a", "c"]
    assert await service.find(asked()) == [{"_id": "b", "owner": "bob"}]


async def test_what_is_gone_meanwhile_is_not_answered(collection: Overtaken, service: MongoService) -> None:
    collection.first = lambda: service.remove("b", asked())
    patched: Any = await service.patch(None, {"done": True}, asked({"$sort": {"_id": 1}}))
    assert [record["_id"] for record in patched] == ["a", "c"]


async def test_the_store_in_memory_keeps_and_gives_copies(service: MongoService) -> None:
    data = {"_id": "x", "list": [{"n": 1}]}
    created: Any = await service.create(data, asked())
    data["list"][0]["n"] = 2  # type: ignore[index]
    found = await service.get("x", asked())
    assert found == {"_id": "x", "list": [{"n": 1}]}
    found["list"].append(3)
    created["list"].append(4)
    assert await service.get("x", asked()) == {"_id": "x", "list": [{"n": 1}]}


async def test_paths_in_internal_patches_reach_into_objects(service: MongoService) -> None:
    patched = await service.patch("a", {"at.city": "Rome"}, asked())
    assert patched == {"_id": "a", "owner": "ann", "at": {"city": "Rome"}}
    with pytest.raises(BadRequest):
        await service.patch("a", {"owner.name": "x"}, asked())
