"""The one place where a tenant's data meets the shared store: bound ids, the mandatory filter, and the way back.

A record of tenant X is stored as `{_id: {a: X, i: <ObjectId or string>}, app_id: X, ...}` and seen everywhere else as
`{_id: <ObjectId or string>, ...}`. Nothing here trusts that hooks above have done their part.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import structlog
from bson import ObjectId

from hooks.context import Record
from hooks.errors import BadRequest, GeneralError, Unavailable
from hooks.tenancy import FIELD
from hooks.tenant import Placement, Tenant
from services import search
from services.placement.placements import SHARED, Placements
from services.placement.writes import Writes
from services.store import Collection, Document, Filter, Namespace, Sort, Store

log = structlog.get_logger()

_T = TypeVar("_T")

MAX_ID = 256

_HEX_ID = re.compile(r"[0-9a-fA-F]{24}")
_GUARDED = frozenset({"_id", FIELD, search.FIELD})
_MINIMUM_ID = ObjectId("0" * 24)
_NOWHERE = Placement()


class Isolation:
    """Gives out collections of a store, each confined to one tenant."""

    def __init__(self, store: Store, placements: Placements | None = None, writes: Writes | None = None) -> None:
        """`store` holds the shared database; `placements` give those of tenants that have one of their own.

        `writes` is the process's gate; without one, nothing is ever moved here.
        """
        self._store = store
        self._placements = placements
        self._writes = Writes() if writes is None else writes
        self._collections: dict[tuple[str, str], Collection] = {}

    def collection(self, tenant: Tenant, name: str, searched: Sequence[str] = ()) -> ScopedCollection:
        """A tenant's part of a collection; `searched` are the fields in which `$search` looks for words.

        Raises:
            Unavailable: the tenant is placed on a cluster that this server does not know.
        """
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
            self._writes.place(tenant)
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

    def _whole(self, update: Mapping[str, Any]) -> Mapping[str, Any]:
        check_update(update)
        return search.with_slots(update, self._searched) if self._searched else update

    def _returned(self, document: Document | None) -> Record | None:
        return None if document is None else from_store(document, self._tenant_id)


def scope(filter: Filter, tenant_id: str) -> Document:
    """The mandatory filter around any other: the tenant's bound id when one is asked for, else `app_id`.

    It is added last, so that nothing in `filter` can undo it.
    """
    bound = _bind(filter, tenant_id)
    condition = bound.get("_id")
    if condition is None or condition.get("a") != tenant_id or "$text" in bound:
        bound[FIELD] = tenant_id
    return bound


def normalise_id(value: Any) -> ObjectId | str:
    """An id as it is stored: 24 hex digits are an ObjectId, an integer its digits, other text is itself.

    Raises:
        BadRequest: anything else.
    """
    kind = type(value)
    if kind is str:
        if len(value) == 24 and _HEX_ID.fullmatch(value):
            return ObjectId(value)
        if value and len(value) <= MAX_ID and (value.isascii() or _is_text(value)):
            text: str = value
            return text
    elif kind is ObjectId:
        given: ObjectId = value
        return given
    elif (kind is int or (kind is float and value.is_integer())) and -(2**63) <= value < 2**63:
        return str(int(value))
    raise invalid_id(value)


def invalid_id(value: object) -> BadRequest:
    """The error for what is no id."""
    return BadRequest(f"Invalid id '{json.dumps(value, default=str, separators=(',', ':'))[:MAX_ID]}'")


def bind_id(value: Any, tenant_id: str) -> Document:
    """An id as the tenant's own: `a` stands before `i`, which fixes its place in the index."""
    return {"a": tenant_id, "i": normalise_id(value)}


def strip(record: Mapping[str, Any], tenant_id: str) -> Record:
    """A copy of a record without its `app_id`.

    Raises:
        BadRequest: it is another tenant's.
    """
    copy = {**record}
    if copy.pop(FIELD, tenant_id) != tenant_id:
        raise _foreign()
    return copy


def to_store(record: Mapping[str, Any], tenant_id: str) -> Document:
    """A record as it is stored."""
    if record.get(FIELD, tenant_id) != tenant_id:
        raise _foreign()
    given = record.get("_id")
    stamp = {"_id": bind_id(ObjectId() if given is None else given, tenant_id), FIELD: tenant_id}
    return {**stamp, **record, **stamp}


def from_store(document: Document, tenant_id: str) -> Record:
    """A stored document, turned in place into the record it holds.

    Raises:
        GeneralError: it is another tenant's: a guard below or the connection to the database has failed.
    """
    bound = document["_id"]
    if bound["a"] != tenant_id:
        log.error("the database answered with a record of another tenant", tenant=tenant_id)
        raise GeneralError
    document["_id"] = bound["i"]
    document.pop(FIELD, None)
    document.pop(search.FIELD, None)
    return document


def check_update(update: Mapping[str, Any]) -> None:
    """Refuses an update that is a pipeline or a replacement, or that could touch what binds a record to its tenant.

    Raises:
        BadRequest: see above.
    """
    if type(update) is not dict and not isinstance(update, Mapping):
        raise BadRequest("An update must be an object of update operators")
    for operator, changes in update.items():
        if operator[:1] != "$" or (type(changes) is not dict and not isinstance(changes, Mapping)):
            raise BadRequest("An update must be an object of update operators")
        for path, value in changes.items():
            _check_changed(path)
            if operator == "$rename":
                _check_changed(value)


def _check_changed(path: object) -> None:
    name = path.partition(".")[0] if isinstance(path, str) else "_id"
    if name in _GUARDED:
        raise BadRequest(f"'{name}' cannot be changed")


def _bind(filter: Filter, tenant_id: str) -> Document:
    """The filter with bound ids and without `app_id`, which is the tenant's own or refused; `$and`s are merged."""
    bound: Document = {}
    parts: list[Document] = []
    for key, value in filter.items():
        if key == "$and":
            parts += [_bind(branch, tenant_id) for branch in value]
        elif key == "_id":
            parts += _bind_condition(value, tenant_id)
        elif key == FIELD:
            if value != tenant_id:
                raise _foreign()
        elif key in {"$or", "$nor"}:
            bound[key] = [_bind(branch, tenant_id) for branch in value]
        elif key[:1] == "$" or key.partition(".")[0] in _GUARDED:
            bound["$text"] = _words(key, value)
        else:
            bound[key] = value
    rest: list[Document] = []
    for part in parts:
        if bound.keys().isdisjoint(part):
            bound.update(part)
        else:
            rest.append(part)
    if rest:
        bound["$and"] = [*bound.get("$and", ()), *rest]
    return bound


def _words(key: str, value: Any) -> Document:
    if key != "$search":
        raise BadRequest(f"Invalid query parameter {key}")
    return {"$search": value, "$language": search.LANGUAGE}


def _bind_condition(value: Any, tenant_id: str) -> list[Document]:
    """Conditions on the bound `_id` that say what `value` says of the plain one."""
    if type(value) is ObjectId or not isinstance(value, Mapping):
        return [{"_id": bind_id(value, tenant_id)}]
    if not value:
        raise invalid_id(value)
    return [_bind_operator(operator, operand, tenant_id) for operator, operand in value.items()]


def _bind_operator(operator: str, operand: Any, tenant_id: str) -> Document:
    if operator in {"$in", "$nin"}:
        return {"_id": {operator: [bind_id(item, tenant_id) for item in operand]}}
    if operator == "$ne":
        return {"_id": {operator: bind_id(operand, tenant_id)}}
    if operator in ("$gt", "$gte", "$lt", "$lte"):
        bound = bind_id(operand, tenant_id)
        least, beyond = ("", {}) if isinstance(bound["i"], str) else (_MINIMUM_ID, False)
        # Plain values compare within their own kind only; the bounds of the kind do the same for bound ones.
        other = {"$lt": {"a": tenant_id, "i": beyond}} if operator[1] == "g" else {"$gte": {"a": tenant_id, "i": least}}
        return {"_id": {operator: bound, **other}}
    if operator == "$exists":
        return {"_id": {operator: operand}}
    if operator == "$regex":
        return {"_id.i": {operator: operand}}
    raise invalid_id({operator: operand}) if operator[:1] != "$" else BadRequest(f"Invalid query parameter {operator}")


def _foreign() -> BadRequest:
    return BadRequest(f"'{FIELD}' is set by the server and cannot be sent")


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
