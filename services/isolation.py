"""The one place where a tenant's data meets the shared store: bound ids, the mandatory filter, and the way back.

A record of tenant X is stored as `{_id: {a: X, i: <ObjectId or string>}, app_id: X, ...}` and seen everywhere else as
`{_id: <ObjectId or string>, ...}`. Nothing here trusts that hooks above have done their part.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from bson import ObjectId

from hooks.context import Record
from hooks.errors import Unavailable
from hooks.tenancy import FIELD
from hooks.tenant import Placement, Tenant
from services import protection, search
from services.binding import (
    MAX_ID,
    bind_id,
    check_update,
    from_store,
    invalid_id,
    normalise_id,
    scope,
    strip,
    to_store,
)
from services.placement.placements import SHARED, Placements
from services.placement.writes import Place, Writes
from services.store import Collection, Document, Filter, Namespace, Sort, Store

__all__ = [
    "MAX_ID",
    "Isolation",
    "Journal",
    "ScopedCollection",
    "bind_id",
    "check_update",
    "from_store",
    "invalid_id",
    "normalise_id",
    "scope",
    "strip",
    "to_store",
]

_T = TypeVar("_T")


_NOWHERE = Placement()


class Journal(Protocol):
    """Hears of each write to what the control plane has and others get copies of, inside of its transaction."""

    async def note(self, tenant: Tenant, collection: str, records: Sequence[Record], *, removed: bool) -> None:
        """`records` are as they were written, or as they were before they were removed."""
        ...


class Isolation:
    """Gives out collections of a store, each confined to one tenant."""

    def __init__(
        self,
        store: Store,
        placements: Placements | None = None,
        writes: Writes | None = None,
        journal: Journal | None = None,
    ) -> None:
        """`store` holds the shared database; `placements` give those of tenants that have one of their own.

        `writes` is the process's gate; without one, nothing is ever moved here. `journal` hears of what the control plane
        writes where others have copies.
        """
        self._store = store
        self._placements = placements
        self._writes = Writes() if writes is None else writes
        self._journal = journal
        self._collections: dict[tuple[str, str], Collection] = {}

    def collection(self, tenant: Tenant, name: str, searched: Sequence[str] = ()) -> ScopedCollection:
        """A tenant's part of a collection; `searched` are the fields in which `$search` looks for words.

        Raises:
            Unavailable: the tenant is placed on a cluster that this server does not know.
        """
        scoped = self._confine(tenant, name, searched)
        kind = protection.COLLECTIONS.get(name)
        if kind is None:
            return scoped
        parents = None if kind.parent is None else self._confine(tenant, kind.parent)
        protected = ProtectedCollection(scoped, kind, parents)
        if self._journal is None or not tenant.is_control_plane:
            return protected
        return JournaledCollection(protected, self, tenant, self._journal)

    def copies(self, tenant: Tenant, name: str, capability: protection.SyncCapability) -> ScopedCollection:
        """A tenant's part of a collection with copies, for the sync: it may write them.

        Raises:
            TypeError: the caller has no capability. Unavailable: as `collection`.
        """
        if type(capability) is not protection.SyncCapability:
            raise TypeError("copies are written by the sync alone")
        return self._confine(tenant, name)

    def _confine(self, tenant: Tenant, name: str, searched: Sequence[str] = ()) -> ScopedCollection:
        placement = self._place(tenant)
        if placement.model == SHARED or self._placements is None:
            key = (placement.database, name)
            collection = self._collections.get(key)
            if collection is None:
                collection = self._collections[key] = self._store.collection(Namespace(*key))
            if placement.cluster != "default":
                raise Unavailable("The app's data is kept on a cluster that this server does not know.")
        else:
            collection = self._placements.collection(tenant, placement, name)
        if tenant.frozen and tenant.id not in self._writes.places:
            self._writes.place(tenant.id, Place(placement, tenant.epoch, is_frozen=True))
        return ScopedCollection(collection, tenant.id, searched, self._writes, placement)

    async def transaction(self, tenant: Tenant, work: Callable[[], Awaitable[_T]]) -> _T:
        """Does work on the tenant's records whose effects are kept all together or not at all: see `Store.transaction`."""
        placement = self._place(tenant)
        # As a whole it is one write: none of its parts may come after the data has been moved.
        with self._writes.one(tenant.id, placement):
            if placement.model == SHARED or self._placements is None:
                return await self._store.transaction(work)
            async with self._placements.handle(tenant, placement) as handle:
                return await handle.deployment.transaction(work)

    def _place(self, tenant: Tenant) -> Placement:
        """Where the tenant's data is now: its snapshot may be from before a move."""
        places = self._writes.places
        if places:
            moved = places.get(tenant.id)
            if moved is not None:
                return moved.placement
        return tenant.placement


class ScopedCollection:
    """A `services.store.Collection` of one tenant's records: it reads and writes those, and nothing else, ever.

    Filters are in MongoDB's syntax with plain ids, and `$search` for words; records go in and come out without `app_id`.
    Ids in filters and records are bound here, under `_id` alone: other fields that look like ids stay as they are.
    Besides what the store raises, BadRequest answers an id that is none, and whatever names another tenant.
    """

    __slots__ = ("_collection", "_placement", "_searched", "_tenant_id", "_writes")

    def __init__(
        self,
        collection: Collection,
        tenant_id: str,
        searched: Sequence[str] = (),
        writes: Writes | None = None,
        placement: Placement = _NOWHERE,
    ) -> None:
        """`writes` is the gate for writes to this placement."""
        self._collection = collection
        self._tenant_id = tenant_id
        self._searched = searched
        self._writes = Writes() if writes is None else writes
        self._placement = placement

    @property
    def namespace(self) -> Namespace:
        return self._collection.namespace

    async def find(
        self,
        filter: Filter,
        *,
        projection: Mapping[str, int] | None = None,
        sort: Sort = (),
        skip: int = 0,
        limit: int = 0,
    ) -> list[Record]:
        """The matching records; limit 0 is all of them. `projection` names fields to include; the id always is."""
        documents = await self._collection.find(
            scope(filter, self._tenant_id), projection=projection, sort=sort, skip=skip, limit=limit
        )
        for document in documents:
            from_store(document, self._tenant_id)
        return documents

    async def count(self, filter: Filter) -> int:
        """How many records match."""
        return await self._collection.count(scope(filter, self._tenant_id))

    async def insert(self, records: Sequence[Record]) -> None:
        """Inserts all records, in order; stops at the first that fails. One without an `_id` is given one."""
        documents = [to_store(record, self._tenant_id) for record in records]
        if self._searched:
            for document in documents:
                document.update(search.slots_of(document, self._searched))
        with self._writes.one(self._tenant_id, self._placement):
            await self._collection.insert(documents)

    async def find_one_and_update(self, filter: Filter, update: Mapping[str, Any]) -> Record | None:
        """Applies update operators to one matching record and returns it as it is afterwards."""
        update = self._whole(update)
        chosen = scope(filter, self._tenant_id)
        with self._writes.one(self._tenant_id, self._placement):
            return self._returned(await self._collection.find_one_and_update(chosen, update))

    async def find_one_and_replace(self, filter: Filter, replacement: Record) -> Record | None:
        """Replaces one matching record, whose `_id` stays, and returns it as it is afterwards."""
        stored = {FIELD: self._tenant_id, **strip(replacement, self._tenant_id)}
        stored.pop("_id", None)
        stored.update(search.slots_of(stored, self._searched))
        chosen = scope(filter, self._tenant_id)
        with self._writes.one(self._tenant_id, self._placement):
            return self._returned(await self._collection.find_one_and_replace(chosen, stored))

    async def find_one_and_delete(self, filter: Filter) -> Record | None:
        """Deletes one matching record and returns it."""
        chosen = scope(filter, self._tenant_id)
        with self._writes.one(self._tenant_id, self._placement):
            return self._returned(await self._collection.find_one_and_delete(chosen))

    async def update_many(self, filter: Filter, update: Mapping[str, Any]) -> int:
        """Applies update operators to all matching records; returns how many matched."""
        update = self._whole(update)
        chosen = scope(filter, self._tenant_id)
        with self._writes.one(self._tenant_id, self._placement):
            return await self._collection.update_many(chosen, update)

    async def delete_many(self, filter: Filter) -> int:
        """Deletes all matching records; returns how many."""
        chosen = scope(filter, self._tenant_id)
        with self._writes.one(self._tenant_id, self._placement):
            return await self._collection.delete_many(chosen)

    async def check_writable(self, filter: Filter) -> None:
        """Before a write in several commands: refuses it as a whole if one of them would be refused.

        Raises:
            Forbidden: the filter matches a copy of what the control plane has.
        """

    def _whole(self, update: Mapping[str, Any]) -> Mapping[str, Any]:
        check_update(update)
        return search.with_slots(update, self._searched) if self._searched else update

    def _returned(self, document: Document | None) -> Record | None:
        return None if document is None else from_store(document, self._tenant_id)


class ProtectedCollection(ScopedCollection):
    """A collection with copies of what the control plane has: they are read like other records, and never written (PR-1).

    Each command carries the condition that it reaches no copy. Whether one was meant is looked up only when nothing, or
    when many records are concerned; if it cannot be looked up, that is the error, and nothing was written (PR-5).
    """

    __slots__ = ("_kind", "_parents")

    def __init__(
        self, scoped: ScopedCollection, kind: protection.Protected, parents: ScopedCollection | None = None
    ) -> None:
        super().__init__(scoped._collection, scoped._tenant_id, scoped._searched, scoped._writes, scoped._placement)
        self._kind = kind
        self._parents = parents

    async def check_writable(self, filter: Filter) -> None:
        if await self.count(protection.copies(filter)):
            raise protection.refuse(self._kind)
        if self._parents is not None:
            await self._check_parents(await self.find(filter, projection={self._kind.link: 1}))

    async def insert(self, records: Sequence[Record]) -> None:
        for record in records:
            protection.check_record(record)
        await self._check_parents(records)
        await super().insert(records)

    async def find_one_and_update(self, filter: Filter, update: Mapping[str, Any]) -> Record | None:
        await self._check(filter, update)
        changed = await super().find_one_and_update(protection.own(filter), update)
        if changed is None:
            await self.check_writable(filter)
        return changed

    async def find_one_and_replace(self, filter: Filter, replacement: Record) -> Record | None:
        protection.check_record(replacement)
        await self._check_parents([replacement])
        await self._check(filter)
        replaced = await super().find_one_and_replace(protection.own(filter), replacement)
        if replaced is None:
            await self.check_writable(filter)
        return replaced

    async def find_one_and_delete(self, filter: Filter) -> Record | None:
        await self._check(filter)
        deleted = await super().find_one_and_delete(protection.own(filter))
        if deleted is None:
            await self.check_writable(filter)
        return deleted

    async def update_many(self, filter: Filter, update: Mapping[str, Any]) -> int:
        await self._check(filter, update)
        await self.check_writable(filter)
        return await super().update_many(protection.own(filter), update)

    async def delete_many(self, filter: Filter) -> int:
        await self.check_writable(filter)
        return await super().delete_many(protection.own(filter))

    async def _check(self, filter: Filter, update: Mapping[str, Any] | None = None) -> None:
        if update is not None:
            check_update(update)
            protection.check_update(update, self._kind.link)
        if self._parents is not None:
            await self.check_writable(filter)

    async def _check_parents(self, records: Sequence[Record]) -> None:
        if self._parents is None:
            return
        ids = [*dict.fromkeys(record[self._kind.link] for record in records if self._kind.link in record)]
        if ids and await self._parents.count(protection.copies({"_id": {"$in": ids}})):
            raise protection.refuse(protection.COLLECTIONS[self._parents.namespace.collection])


class JournaledCollection(ProtectedCollection):
    """What the control plane has of a collection: each write and the note of it are kept both or neither (SY-2)."""

    __slots__ = ("_isolation", "_journal", "_tenant")

    def __init__(self, protected: ProtectedCollection, isolation: Isolation, tenant: Tenant, journal: Journal) -> None:
        super().__init__(protected, protected._kind, protected._parents)
        self._isolation = isolation
        self._tenant = tenant
        self._journal = journal

    async def insert(self, records: Sequence[Record]) -> None:
        named = [{"_id": ObjectId(), **record} for record in records]

        async def write() -> None:
            await super(JournaledCollection, self).insert(named)
            await self._note(named)

        await self._isolation.transaction(self._tenant, write)

    async def find_one_and_update(self, filter: Filter, update: Mapping[str, Any]) -> Record | None:
        return await self._one(lambda: super(JournaledCollection, self).find_one_and_update(filter, update))

    async def find_one_and_replace(self, filter: Filter, replacement: Record) -> Record | None:
        return await self._one(lambda: super(JournaledCollection, self).find_one_and_replace(filter, replacement))

    async def find_one_and_delete(self, filter: Filter) -> Record | None:
        return await self._one(lambda: super(JournaledCollection, self).find_one_and_delete(filter), removed=True)

    async def update_many(self, filter: Filter, update: Mapping[str, Any]) -> int:
        async def write() -> int:
            ids = [record["_id"] for record in await self.find(filter, projection={"_id": 1})]
            chosen = {"_id": {"$in": ids}}
            count = await super(JournaledCollection, self).update_many(chosen, update) if ids else 0
            await self._note(await self.find(chosen) if ids else [])
            return count

        return await self._isolation.transaction(self._tenant, write)

    async def delete_many(self, filter: Filter) -> int:
        async def write() -> int:
            gone = await self.find(filter)
            count = await super(JournaledCollection, self).delete_many(filter)
            await self._note(gone, removed=True)
            return count

        return await self._isolation.transaction(self._tenant, write)

    async def _one(self, command: Callable[[], Awaitable[Record | None]], *, removed: bool = False) -> Record | None:
        async def write() -> Record | None:
            record = await command()
            await self._note([] if record is None else [record], removed=removed)
            return record

        return await self._isolation.transaction(self._tenant, write)

    async def _note(self, records: Sequence[Record], *, removed: bool = False) -> None:
        if records:
            await self._journal.note(self._tenant, self.namespace.collection, records, removed=removed)
