"""MongoService: records of a collection, with the six methods and their rules as Feathers clients know them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bson import ObjectId

from hooks.context import Params, Record
from hooks.errors import BadRequest, MethodNotAllowed, NotFound
from services.base import Page, Service
from services.isolation import MAX_ID, Isolation, ScopedCollection, invalid_id, normalise_id, strip
from services.query import Paginate, Query, QueryOptions, parse
from services.store import Document, Filter

MAX_RECORDS = 10_000
"""Records that one call may find without pages, or change."""
BATCH = 1_000
"""Records that one command changes."""

MULTI_METHODS = frozenset({"create", "patch", "remove"})


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """What a service keeps, where, and what it lets its clients do."""

    collection: str
    id: str = "_id"
    """The field that holds a record's id. One of its own is kept as it is given, and generated as text when missing."""
    paginate: Paginate | None = None
    """None answers `find` with a bare list."""
    multi: frozenset[str] = frozenset()
    """Those of create, patch and remove that may take many records at once."""
    operators: frozenset[str] = frozenset()
    hidden: frozenset[str] = frozenset()
    """See `services.query.QueryOptions`."""

    def __post_init__(self) -> None:
        if unknown := self.multi - MULTI_METHODS:
            raise ValueError(f"multi is for create, patch and remove, not {', '.join(sorted(unknown))}")


class MongoService(Service):
    """Works over any `services.store.Store`; every call reaches its tenant's records alone.

    Besides the errors of the store and of `services.query.parse`: NotFound when no record has the id *and* matches the
    query, MethodNotAllowed for many records where they are not allowed, BadRequest for ids and data that are none.
    """

    def __init__(self, isolation: Isolation, options: ServiceOptions) -> None:
        self.id = options.id
        self.options = options
        self._isolation = isolation
        self._outside = QueryOptions(options.paginate, options.operators, options.hidden)
        self._inside = QueryOptions(options.paginate, options.operators)

    async def find(self, params: Params) -> Page | list[Record]:
        """The matching records, as a page if the service has pages. `$limit: 0` only counts.

        Raises:
            BadRequest: without pages, more than 10 000 records match and no `$limit` says how many are wanted.
        """
        query = self._parse(params)
        collection = self._collection(params)
        if self.options.paginate is None:
            return await self._find_bounded(collection, query) if query.limit != 0 else []
        limit = query.limit or 0
        records: list[Record] = []
        if limit:
            records = await collection.find(
                query.filter, projection=self._projection(query), sort=_stable(query), skip=query.skip, limit=limit
            )
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
        """Keeps new records. The query says nothing about them. Of a list, those before one that fails are kept.

        Raises:
            Conflict: an id or another unique value is taken.
        """
        if "$select" in params.query:
            parse({"$select": params.query["$select"]}, self._offer(params))
        tenant_id = params.tenant.id
        if not isinstance(data, list):
            record = self._to_record(data, tenant_id)
            await self._collection(params).insert([record])
            return record
        self._require_multi("create")
        if len(data) > MAX_RECORDS:
            raise _too_many()
        records = [self._to_record(item, tenant_id) for item in data]
        collection = self._collection(params)
        for batch in _batches(records):
            await collection.insert(batch)
        return records

    async def update(self, id: Any, data: Any, params: Params) -> Record:
        """Replaces a record completely; its id stays."""
        if id is None or isinstance(data, list):
            raise BadRequest("You can not replace multiple instances. Did you mean 'patch'?")
        query = self._parse(params)
        replacement = self._without_id(data, params.tenant.id)
        if self.id != "_id":
            replacement[self.id] = id
        chosen = self._identified(query.filter, id)
        return _found(await self._collection(params).find_one_and_replace(chosen, replacement), id)

    async def patch(self, id: Any, data: Any, params: Params) -> Record | list[Record]:
        """Sets the given fields of a record; of all matching records when the id is None.

        Of many it returns those that matched before, though they may no longer, in the order in which they were found.
        """
        if id is None:
            self._require_multi("patch")
        query = self._parse(params)
        update = _to_update(self._without_id(data, params.tenant.id))
        collection = self._collection(params)
        if id is None:
            return await self._patch_all(collection, query, update)
        if not update:
            return await self._get(collection, id, Query(query.filter))
        return _found(await collection.find_one_and_update(self._identified(query.filter, id), update), id)

    async def remove(self, id: Any, params: Params) -> Record | list[Record]:
        """Removes a record and returns it; all matching records when the id is None."""
        if id is None:
            self._require_multi("remove")
        query = self._parse(params)
        collection = self._collection(params)
        if id is None:
            return await self._remove_all(collection, query)
        return _found(await collection.find_one_and_delete(self._identified(query.filter, id)), id)

    async def _get(self, collection: ScopedCollection, id: Any, query: Query) -> Record:
        chosen = self._identified(query.filter, id)
        records = await collection.find(chosen, projection=self._projection(query), limit=1)
        return _found(records[0] if records else None, id)

    async def _patch_all(self, collection: ScopedCollection, query: Query, update: Document) -> list[Record]:
        patched: list[Record] = []
        for ids in _batches(await self._matching_ids(collection, query)):
            chosen = {"_id": {"$in": ids}}
            if update:
                # What a concurrent call has taken out of the query's reach is out of reach for this one too.
                await collection.update_many({"$and": [query.filter, chosen]}, update)
            records = {record["_id"]: record for record in await collection.find(chosen)}
            patched += [records[found] for found in ids if found in records]
        return patched

    async def _remove_all(self, collection: ScopedCollection, query: Query) -> list[Record]:
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
            sort=_stable(query),
            skip=query.skip,
            limit=bound if query.limit is None else min(query.limit, bound),
        )
        if len(records) == bound:
            raise _too_many()
        return records

    def _parse(self, params: Params) -> Query:
        return parse(params.query, self._offer(params))

    def _offer(self, params: Params) -> QueryOptions:
        """What may be asked: only the server's own calls may ask by hidden fields."""
        return self._inside if params.provider is None else self._outside

    def _collection(self, params: Params) -> ScopedCollection:
        return self._isolation.collection(params.tenant, self.options.collection)

    def _identified(self, filter: Filter, id: Any) -> Filter:
        """The filter for a record that has this id and matches the query."""
        if self.id == "_id":
            # An object here would be taken for a condition.
            normalise_id(id)
        else:
            _check_custom_id(id)
        if self.id in filter:
            return {"$and": [filter, {self.id: id}]}
        return {**filter, self.id: id}

    def _projection(self, query: Query) -> dict[str, int] | None:
        if query.select is None:
            return None
        return dict.fromkeys(("_id", self.id, *query.select), 1)

    def _to_record(self, data: Any, tenant_id: str) -> Record:
        record: Record = {"_id": None, **strip(_checked(data), tenant_id)}
        record["_id"] = ObjectId() if record["_id"] is None else normalise_id(record["_id"])
        if self.id != "_id":
            if record.get(self.id) is None:
                record[self.id] = str(ObjectId())
            _check_custom_id(record[self.id])
        return record

    def _without_id(self, data: Any, tenant_id: str) -> Record:
        record = strip(_checked(data), tenant_id)
        record.pop("_id", None)
        record.pop(self.id, None)
        return record

    def _require_multi(self, method: str) -> None:
        if method not in self.options.multi:
            raise MethodNotAllowed(f"Can not {method} multiple entries")


def _to_update(changes: Record) -> Document:
    """The update operators for a patch: plain fields are set. A service that offers more of them begins here."""
    return {"$set": changes} if changes else {}


def _checked(data: Any) -> Record:
    if not isinstance(data, dict):
        raise BadRequest("The data must be an object")
    for key in data:
        if key[:1] == "$":
            raise BadRequest(f"Invalid key '{key[:MAX_ID]}': keys may not begin with '$'")
    return data


def _check_custom_id(id: Any) -> None:
    kind = type(id)
    if not (kind is str and 0 < len(id) <= MAX_ID) and kind is not int and kind is not float and kind is not ObjectId:
        raise invalid_id(id)


def _found(record: Record | None, id: Any) -> Record:
    if record is None:
        raise NotFound(f"No record found for id '{id}'")
    return record


def _stable(query: Query) -> Sequence[tuple[str, int]]:
    """The order, with the id to decide between equals: pages neither repeat nor miss records.

    The id goes the way of the last field, so that one index serves both directions.
    """
    if not query.sort or any(path == "_id" for path, _ in query.sort):
        return query.sort
    return (*query.sort, ("_id", query.sort[-1][1]))


def _batches(items: list[Any]) -> list[list[Any]]:
    return [items[start : start + BATCH] for start in range(0, len(items), BATCH)]


def _too_many() -> BadRequest:
    return BadRequest(f"More than {MAX_RECORDS} records at once: narrow the query, or take pages by $limit and $skip")
