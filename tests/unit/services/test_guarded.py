"""Writes under a guard while others write: what was judged is what is changed, at every interleaving."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import pytest

from hooks.context import Guard, Params, Record
from hooks.errors import Conflict, Forbidden, NotFound
from hooks.tenant import Tenant
from services.isolation import Isolation
from services.memory import MemoryStore
from services.mongo import MongoService, ServiceOptions
from services.store import Collection, Document, Filter, Namespace, Sort

TENANT = Tenant("acme", "Acme")
Between = Callable[[], Awaitable[object]]

T = TypeVar("T")


class Interrupted:
    """A store whose next writes have another call come right before them."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.between: list[Between] = []

    async def transaction(self, work: Callable[[], Awaitable[T]]) -> T:
        return await work()

    def collection(self, namespace: Namespace) -> Collection:
        return InterruptedCollection(self.store.collection(namespace), self)

    async def interrupt(self) -> None:
        if self.between:
            await self.between.pop(0)()


class InterruptedCollection:
    """A collection of such a store."""

    def __init__(self, inner: Collection, store: Interrupted) -> None:
        self._inner = inner
        self._store = store

    @property
    def namespace(self) -> Namespace:
        return self._inner.namespace

    async def find(
        self,
        filter: Filter,
        *,
        projection: Mapping[str, int] | None = None,
        sort: Sort = (),
        skip: int = 0,
        limit: int = 0,
    ) -> list[Document]:
        return await self._inner.find(filter, projection=projection, sort=sort, skip=skip, limit=limit)

    async def count(self, filter: Filter) -> int:
        return await self._inner.count(filter)

    async def insert(self, documents: Sequence[Document]) -> None:
        await self._inner.insert(documents)

    async def find_one_and_update(self, filter: Filter, update: Mapping[str, Any]) -> Document | None:
        await self._store.interrupt()
        return await self._inner.find_one_and_update(filter, update)

    async def find_one_and_replace(self, filter: Filter, replacement: Document) -> Document | None:
        await self._store.interrupt()
        return await self._inner.find_one_and_replace(filter, replacement)

    async def find_one_and_delete(self, filter: Filter) -> Document | None:
        return await self._inner.find_one_and_delete(filter)

    async def update_many(self, filter: Filter, update: Mapping[str, Any]) -> int:
        await self._store.interrupt()
        return await self._inner.update_many(filter, update)

    async def delete_many(self, filter: Filter) -> int:
        return await self._inner.delete_many(filter)


class House:
    """A service of notes over such a store, and what the server itself does to them meanwhile."""

    def __init__(self, **options: Any) -> None:
        self.store = Interrupted()
        self.notes = MongoService(
            Isolation(self.store), ServiceOptions("notes", multi=frozenset({"create", "patch", "remove"}), **options)
        )
        self.quiet = MongoService(Isolation(self.store.store), ServiceOptions("notes"))

    async def keep(self, **record: Any) -> None:
        await self.quiet.create({"_id": "n", **record}, Params(tenant=TENANT))

    async def stored(self) -> Record:
        return await self.quiet.get("n", Params(tenant=TENANT))

    def meanwhile(self, **change: Any) -> None:
        self.store.between.append(lambda: self.quiet.patch("n", change, Params(tenant=TENANT)))


def guarded(scope: Record, *, watch: Sequence[str] = (), query: Record | None = None) -> Params:
    guard = Guard(scope, frozenset({*scope} - {"$or"} | {name for part in scope.get("$or", ()) for name in part}))
    guard.watch = frozenset(watch)
    return Params(tenant=TENANT, provider="rest", query=query or {}, guard=guard)


EITHER = {"$or": [{"owner": "ada"}, {"open": True}]}
"""A record that is open or hers: closing one of hers is right, and giving an open one away is right, but not both."""


@pytest.mark.parametrize("method", ["patch", "many", "update"])
async def test_two_changes_that_are_right_by_themselves_do_not_meet(method: str) -> None:
    house = House(readonly=frozenset({"open"}))
    await house.keep(owner="ada", open=True)
    house.meanwhile(open=False)
    change = house.notes.update if method == "update" else house.notes.patch
    with pytest.raises(Forbidden, match="not allowed to change"):
        await change(None if method == "many" else "n", {"owner": "bob"}, guarded(EITHER))
    assert await house.stored() == {"_id": "n", "owner": "ada", "open": False}


async def test_a_change_goes_on_with_what_others_have_made_of_the_record() -> None:
    house = House()
    await house.keep(owner="ada", open=True, n=1)
    house.meanwhile(open="perhaps", n=2)
    params = guarded(EITHER)
    patched = await house.notes.patch("n", {"owner": ["ada", "bob"]}, params)
    assert patched == {"_id": "n", "owner": ["ada", "bob"], "open": "perhaps", "n": 2}
    assert params.guard is not None
    assert params.guard.before["n"]["open"] == "perhaps"


@pytest.mark.parametrize(
    ("before", "after"),
    [(None, "absent"), ("absent", None), ("x", ["x"]), ({"a": 1}, [{"a": 1}]), (1, True), (["x"], "x")],
)
async def test_missing_null_and_lists_are_told_apart(before: Any, after: Any) -> None:
    """What the record held when it was judged is compared with care: null is not missing, a list is not its item."""
    house = House()
    await house.keep(owner="ada", **({} if before == "absent" else {"mark": before}))
    change = {"$unset": {"mark": 1}} if after == "absent" else {"$set": {"mark": after}}
    isolated = Isolation(house.store.store).collection(TENANT, "notes")
    seen: list[Record] = []

    async def interrupt() -> None:
        seen.append((await isolated.find_one_and_update({"_id": "n"}, change)) or {})

    house.store.between.append(interrupt)
    params = guarded({"owner": "ada", "mark": {"$nin": ["no"]}}, watch=["mark"])
    await house.notes.patch("n", {"owner": "ada", "n": 1}, params)
    assert params.guard is not None
    assert seen != []
    assert repr(params.guard.before["n"]) == repr(seen[0])


async def test_a_record_that_leaves_the_reach_meanwhile_is_not_there() -> None:
    house = House()
    await house.keep(owner="ada")
    house.meanwhile(owner="bob")
    with pytest.raises(NotFound):
        await house.notes.patch("n", {"owner": "ada", "n": 1}, guarded({"owner": "ada"}))
    house = House()
    await house.keep(owner="ada")
    house.meanwhile(owner="bob")
    assert await house.notes.patch(None, {"n": 1}, guarded({"owner": "ada"})) == [], "nor is it in the answer"
    assert "n" not in await house.stored()


async def test_who_is_overtaken_again_and_again_is_told_so() -> None:
    house = House()
    await house.keep(owner="ada", n=0)
    for round in range(20):
        house.meanwhile(owner=["ada", round])
    with pytest.raises(Conflict, match="try again"):
        await house.notes.patch("n", {"owner": "ada"}, guarded({"owner": "ada"}))


async def test_a_change_of_other_fields_needs_no_second_look() -> None:
    house = House()
    await house.keep(owner="ada", n=0)
    house.meanwhile(n=5)
    params = guarded({"owner": "ada"}, watch=["open"])
    assert (await house.notes.patch("n", {"m": 1}, params)) == {"_id": "n", "owner": "ada", "n": 5, "m": 1}
    assert params.guard is not None
    assert (params.guard.before, [*params.guard.after]) == ({}, ["n"])


async def test_what_is_noted_is_not_what_hooks_change() -> None:
    house = House()
    params = guarded({"owner": "ada"})
    made = await house.notes.create({"_id": "n", "owner": "ada"}, params)
    assert isinstance(made, dict)
    made["owner"] = "eve"
    assert params.guard is not None
    assert params.guard.after["n"]["owner"] == "ada"
