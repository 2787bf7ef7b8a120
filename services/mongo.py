"""MongoService: records of a collection, with the six methods and their rules as Feathers clients know them."""

from __future__ import annotations

from typing import Any

from bson import ObjectId

from hooks.context import Guard, Params, Record, Verify
from hooks.errors import BadRequest, MethodNotAllowed
from hooks.operations import is_operation
from services.base import Page, Service
from services.cursor import Order, find_page
from services.effect import apply
from services.guarded import NOT_CHANGED, NOT_CREATED, admit, attempt, noted, touches
from services.isolation import Isolation, ScopedCollection, normalise_id, strip
from services.options import ServiceOptions
from services.query import Query, QueryOptions, parse
from services.records import check_custom_id, checked, plain_object, present, stable, to_update, without
from services.store import Document, Filter
from services.update import read_update, roots

__all__ = ["MongoService", "ServiceOptions"]

MAX_RECORDS = 10_000
"""Records that one call may find without pages, or change."""
BATCH = 1_000
"""Records that one command changes."""


class MongoService(Service):
    """Works over any `services.store.Store`; every call reaches its tenant's records alone.

    Besides the errors of the store and of `services.query.parse`: NotFound when no record has the id *and* matches the
    query, MethodNotAllowed for many records where they are not allowed, BadRequest for ids and data that are none.

    It keeps to `params.guard`: what is outside of its scope is not there, and what a call makes of a record must be inside,
    or the answer is Forbidden.
    """

    guards = True

    def __init__(self, isolation: Isolation, options: ServiceOptions) -> None:
        self.id = options.id
        self.options = options
        self.updates = options.updates
        self.readonly = options.readonly
        self._isolation = isolation
        self._fixed = frozenset({"_id", options.id})
        self._stays = options.readonly | options.hidden
        operators, search = options.operators - {"$search"}, "$search" in options.operators
        self._outside = QueryOptions(options.paginate, operators, options.hidden, search)
        self._inside = QueryOptions(options.paginate, operators, search=search)

    async def find(self, params: Params) -> Page | list[Record]:
        """The matching records, as a page if the service has pages. `$limit: 0` only counts, `$total: false` does not.

        With `$after`, `$before` or `$cursor` the page has a `cursor: {next, previous}` besides; null is the end.

        Raises:
            BadRequest: without pages, more than 10 000 records match and no `$limit` says how many are wanted.
        """
        query = self._read(params)
        collection = self._collection(params)
        if query.position is not None:
            if self.options.paginate is None:
                raise BadRequest("'$after', '$before' and '$cursor' are for services with pages")
            order = Order(stable(query) or (("_id", 1),), params.tenant.id, self.options.collection)
            return await find_page(collection, query, query.position, order, self.id)
        if self.options.paginate is None:
            return await self._find_bounded(collection, query) if query.limit != 0 else []
        limit = query.limit or 0
        records: list[Record] = []
        if limit:
            records = await collection.find(
                query.filter, projection=self._projection(query), sort=stable(query), skip=query.skip, limit=limit
            )
        if not query.total:
            return {"limit": limit, "skip": query.skip, "data": records}
        # A page that is not full is the last one, and its end is the total.
        if len(records) < limit and (records or not query.skip):
            total = query.skip + len(records)
        else:
            total = await collection.count(query.filter)
        return {"total": total, "limit": limit, "skip": query.skip, "data": records}

    async def get(self, id: Any, params: Params) -> Record:
        """The record that has the id and matches the query."""
        query = self._parse(params)
        return await self._get(self._collection(params), id, query)

    async def create(self, data: Any, params: Params) -> Record | list[Record]:
        """Keeps new records, of a list all or none. The query says nothing about them.

        Raises:
            Conflict: an id or another unique value is taken.
        """
        if "$select" in params.query:
            parse({"$select": params.query["$select"]}, self._offer(params))
        tenant_id = params.tenant.id
        if not isinstance(data, list):
            record = self._to_record(data, tenant_id)
            if params.guard is not None:
                admit(params.guard, [record], NOT_CREATED)
            await self._collection(params).insert([record])
            return noted(params.guard, record)
        self._require_multi("create")
        if len(data) > MAX_RECORDS:
            raise _too_many()
        records = [self._to_record(item, tenant_id) for item in data]
        if params.guard is not None:
            admit(params.guard, records, NOT_CREATED)
        collection = self._collection(params)

        async def insert_all() -> None:
            for batch in _batches(records):
                await collection.insert(batch)

        if len(records) > 1:
            await self._isolation.transaction(params.tenant, insert_all)
        else:
            await insert_all()
        return noted(params.guard, records)

    async def update(self, id: Any, data: Any, params: Params) -> Record:
        """Replaces a record completely; its id stays."""
        if id is None or isinstance(data, list):
            raise BadRequest("You can not replace multiple instances. Did you mean 'patch'?")
        query = self._parse(params)
        replacement = self._without_id(data, params.tenant.id)
        if self.id != "_id":
            replacement[self.id] = id
        chosen = self._identified(query.filter, id)
        collection = self._collection(params)
        if params.guard is not None or (self._stays and params.provider is not None):
            replaced = await self._replace_tried(collection, chosen, replacement, params)
            return noted(params.guard, present(replaced, id))
        return present(await collection.find_one_and_replace(chosen, replacement), id)

    async def patch(self, id: Any, data: Any, params: Params) -> Record | list[Record]:
        """Sets the given fields of a record; of all matching records when the id is None. Operators change it otherwise.

        When a hook has set `params.verify`, what operators would make of a record must pass it. Of many records it
        returns those that matched before, though they may no longer, in the order in which they were found.
        """
        if id is None:
            self._require_multi("patch")
        query = self._parse(params)
        changes = strip(plain_object(data), params.tenant.id)
        verify = None
        if is_operation(changes):
            update = read_update(changes, self.updates, self._fixed)
            verify = params.verify
        else:
            update = to_update(without(changes, self._fixed))
        collection = self._collection(params)
        guard = params.guard
        if id is None:
            if verify is not None:
                raise BadRequest("The schema can judge this change one record at a time only: patch them by their ids")
            return noted(guard, await self._patch_all(collection, query, update, guard))
        if not update:
            return noted(guard, await self._get(collection, id, Query(query.filter)))
        chosen = self._identified(query.filter, id)
        if guard is None and verify is None:
            return present(await collection.find_one_and_update(chosen, update), id)
        if verify is not None or touches(guard, update):
            return noted(guard, present(await self._patch_tried(collection, chosen, update, guard, verify), id))
        return noted(guard, present(await collection.find_one_and_update(chosen, update), id))

    async def remove(self, id: Any, params: Params) -> Record | list[Record]:
        """Removes a record and returns it; all matching records when the id is None."""
        if id is None:
            self._require_multi("remove")
        query = self._parse(params)
        collection = self._collection(params)
        if id is None:
            return noted(params.guard, await self._remove_all(collection, query))
        chosen = self._identified(query.filter, id)
        return noted(params.guard, present(await collection.find_one_and_delete(chosen), id))

    async def _replace_tried(
        self, collection: ScopedCollection, chosen: Filter, replacement: Record, params: Params
    ) -> Record | None:
        """Replaces a record, for clients but for the fields that they cannot write or read: those stay as they are."""
        stays = self._stays if params.provider is not None else frozenset[str]()

        def change(old: Record) -> Record:
            kept = {field: old[field] for field in stays if field in old}
            fixed = {field: kept[field] for field in self.readonly if field in kept}
            return {**kept, **replacement, **fixed, "_id": old["_id"]}

        return await attempt(
            collection,
            chosen,
            pinned=stays,
            guard=params.guard,
            change=change,
            write=collection.find_one_and_replace,
        )

    async def _patch_tried(
        self,
        collection: ScopedCollection,
        chosen: Filter,
        update: Document,
        guard: Guard | None,
        verify: Verify | None = None,
    ) -> Record | None:
        def change(old: Record) -> Record:
            changed = apply(old, update)
            if verify is not None:
                verify(changed)
            return changed

        return await attempt(
            collection,
            chosen,
            pinned=() if verify is None else roots(update),
            guard=guard,
            change=change,
            write=lambda filter, changed: collection.find_one_and_update(filter, update),
        )

    async def _get(self, collection: ScopedCollection, id: Any, query: Query) -> Record:
        chosen = self._identified(query.filter, id)
        records = await collection.find(chosen, projection=self._projection(query), limit=1)
        return present(records[0] if records else None, id)

    async def _patch_all(
        self, collection: ScopedCollection, query: Query, update: Document, guard: Guard | None
    ) -> list[Record]:
        if guard is not None and not guard.fields.isdisjoint(roots(update)):
            return await self._patch_each(collection, query, update, guard)
        await collection.check_writable(query.filter)
        patched: list[Record] = []
        for ids in _batches(await self._matching_ids(collection, query)):
            chosen: Filter = {"_id": {"$in": ids}}
            if guard is not None and guard.scope is not None:
                chosen = {"$and": [guard.scope, chosen]}
            if update:
                # What a concurrent call has taken out of the query's reach is out of reach for this one too.
                reached = {"$and": [query.filter, chosen]}
                if guard is not None and touches(guard, update):
                    guard.before.update({record["_id"]: record for record in await collection.find(reached)})
                await collection.update_many(reached, update)
            records = {record["_id"]: record for record in await collection.find(chosen)}
            patched += [records[found] for found in ids if found in records]
        return patched

    async def _patch_each(
        self, collection: ScopedCollection, query: Query, update: Document, guard: Guard
    ) -> list[Record]:
        """Patches many records by themselves, for the change decides who reaches them; none if one may not be changed so."""
        await collection.check_writable(query.filter)
        records = await self._find_bounded(collection, Query(query.filter, query.sort))
        admit(guard, [apply(record, update) for record in records], NOT_CHANGED)
        patched: list[Record] = []
        for record in records:
            chosen = {"$and": [query.filter, {"_id": record["_id"]}]}
            changed = await self._patch_tried(collection, chosen, update, guard)
            if changed is not None:
                patched.append(changed)
        return patched

    async def _remove_all(self, collection: ScopedCollection, query: Query) -> list[Record]:
        await collection.check_writable(query.filter)
        removed: list[Record] = []
        everything = Query(query.filter, query.sort)
        for records in _batches(await self._find_bounded(collection, everything)):
            chosen = {"_id": {"$in": [record["_id"] for record in records]}}
            left: set[Any] = set()
            if await collection.delete_many({"$and": [query.filter, chosen]}) != len(records):
                left = {record["_id"] for record in await collection.find(chosen, projection={"_id": 1})}
            removed += [record for record in records if record["_id"] not in left]
        return removed

    async def _matching_ids(self, collection: ScopedCollection, query: Query) -> list[Any]:
        only_ids = Query(query.filter, query.sort, select=("_id",))
        return [record["_id"] for record in await self._find_bounded(collection, only_ids)]

    async def _find_bounded(self, collection: ScopedCollection, query: Query) -> list[Record]:
        bound = MAX_RECORDS + 1
        records = await collection.find(
            query.filter,
            projection=self._projection(query),
            sort=stable(query),
            skip=query.skip,
            limit=bound if query.limit is None else min(query.limit, bound),
        )
        if len(records) == bound:
            raise _too_many()
        return records

    def _parse(self, params: Params) -> Query:
        """What restricts a call to matching records."""
        query = self._read(params)
        if query.position is not None:
            raise BadRequest("'$after', '$before' and '$cursor' are for 'find' alone")
        return query

    def _read(self, params: Params) -> Query:
        query = parse(params.query, self._offer(params))
        if params.guard is None or params.guard.scope is None:
            return query
        return query._replace(filter={"$and": [query.filter, params.guard.scope]})

    def _offer(self, params: Params) -> QueryOptions:
        """What may be asked: only the server's own calls may ask by hidden fields."""
        return self._inside if params.provider is None else self._outside

    def _collection(self, params: Params) -> ScopedCollection:
        return self._isolation.collection(params.tenant, self.options.collection, self.options.search)

    def _identified(self, filter: Filter, id: Any) -> Filter:
        """The filter for a record that has this id and matches the query."""
        if self.id == "_id":
            # An object here would be taken for a condition.
            id = normalise_id(id)
        else:
            check_custom_id(id)
        if self.id in filter:
            return {"$and": [filter, {self.id: id}]}
        return {**filter, self.id: id}

    def _projection(self, query: Query) -> dict[str, int] | None:
        if query.select is None:
            return None
        return dict.fromkeys(("_id", self.id, *query.select), 1)

    def _to_record(self, data: Any, tenant_id: str) -> Record:
        record: Record = {"_id": None, **strip(checked(data), tenant_id)}
        record["_id"] = ObjectId() if record["_id"] is None else normalise_id(record["_id"])
        if self.id != "_id":
            if record.get(self.id) is None:
                record[self.id] = str(ObjectId())
            check_custom_id(record[self.id])
        return record

    def _without_id(self, data: Any, tenant_id: str) -> Record:
        return without(strip(checked(data), tenant_id), self._fixed)

    def _require_multi(self, method: str) -> None:
        if method not in self.options.multi:
            raise MethodNotAllowed(f"Can not {method} multiple entries")


def _batches(items: list[Any]) -> list[list[Any]]:
    return [items[start : start + BATCH] for start in range(0, len(items), BATCH)]


def _too_many() -> BadRequest:
    return BadRequest(f"More than {MAX_RECORDS} records at once: narrow the query, or take pages by $limit and $skip")
