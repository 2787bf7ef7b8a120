"""A store in memory, for tests and plug-ins, and MemoryService over it: the same rules as MongoDB, nothing is kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC
from typing import Any, TypeVar

import bson
from bson import CodecOptions
from bson.errors import BSONError

from hooks.errors import BadRequest, Conflict, GeneralError
from hooks.tenancy import FIELD
from services.effect import apply
from services.isolation import Isolation
from services.mongo import MongoService, ServiceOptions
from services.predicate import compile_filter, sort_documents
from services.store import Collection, Document, Filter, Namespace, Sort

_T = TypeVar("_T")

_CODEC: CodecOptions[Document] = CodecOptions(tz_aware=True, tzinfo=UTC)


class MemoryService(MongoService):
    """The service over a store of its own in memory; its records are gone with it."""

    def __init__(self, options: ServiceOptions) -> None:
        unique = () if options.id == "_id" else (options.id,)
        super().__init__(Isolation(MemoryStore({options.collection: unique})), options)


class MemoryStore:
    """Implements `services.store.Store`."""

    def __init__(self, unique: Mapping[str, Sequence[str]] | None = None) -> None:
        """`unique` names fields by collection: no two records of a tenant have the same value of one."""
        self._unique = unique or {}
        self._collections: dict[Namespace, MemoryCollection] = {}

    def collection(self, namespace: Namespace) -> Collection:
        found = self._collections.get(namespace)
        if found is None:
            unique = tuple(self._unique.get(namespace.collection, ()))
            found = self._collections[namespace] = MemoryCollection(namespace, unique)
        return found

    async def transaction(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """As of any store; but what others change while the work goes on is undone with it when it fails."""
        before = {namespace: collection.snapshot() for namespace, collection in self._collections.items()}
        try:
            return await work()
        except BaseException:
            for namespace, collection in self._collections.items():
                collection.restore(before.get(namespace, {}))
            raise


class MemoryCollection:
    """Implements `services.store.Collection`: each tenant's documents in a dictionary of their own."""

    def __init__(self, namespace: Namespace, unique: Sequence[str] = ()) -> None:
        self._namespace = namespace
        self._unique = unique
        self._tenants: defaultdict[str, dict[Any, Document]] = defaultdict(dict)

    @property
    def namespace(self) -> Namespace:
        return self._namespace

    def snapshot(self) -> Mapping[str, Mapping[Any, Document]]:
        """All documents as they are now, by tenant and id."""
        return {id: {key: _copy(kept) for key, kept in own.items()} for id, own in self._tenants.items()}

    def restore(self, snapshot: Mapping[str, Mapping[Any, Document]]) -> None:
        """Has the documents of a snapshot again, and no others."""
        self._tenants.clear()
        for id, own in snapshot.items():
            self._tenants[id] = dict(own)

    async def find(
        self,
        filter: Filter,
        *,
        projection: Mapping[str, int] | None = None,
        sort: Sort = (),
        skip: int = 0,
        limit: int = 0,
    ) -> list[Document]:
        found = list(self._matching(filter))
        if sort:
            sort_documents(found, sort)
        found = found[skip : skip + limit if limit else None]
        if projection is None:
            return [_copy(document) for document in found]
        tree = _tree(projection)
        return [_project(document, tree) for document in found]

    async def count(self, filter: Filter) -> int:
        return sum(1 for _ in self._matching(filter))

    async def insert(self, documents: Sequence[Document]) -> None:
        for document in map(_stored, documents):
            records = self._tenants[document[FIELD]]
            if document["_id"]["i"] in records:
                raise Conflict(_taken("_id"))
            self._check_unique(document)
            records[document["_id"]["i"]] = document

    async def find_one_and_update(self, filter: Filter, update: Mapping[str, Any]) -> Document | None:
        document = next(self._matching(filter), None)
        return None if document is None else _copy(self._put(apply(document, update)))

    async def find_one_and_replace(self, filter: Filter, replacement: Document) -> Document | None:
        document = next(self._matching(filter), None)
        return None if document is None else _copy(self._put({"_id": document["_id"], **replacement}))

    async def find_one_and_delete(self, filter: Filter) -> Document | None:
        document = next(self._matching(filter), None)
        return None if document is None else self._drop(document)

    async def update_many(self, filter: Filter, update: Mapping[str, Any]) -> int:
        return len([self._put(apply(document, update)) for document in list(self._matching(filter))])

    async def delete_many(self, filter: Filter) -> int:
        return len([self._drop(document) for document in list(self._matching(filter))])

    def _matching(self, filter: Filter) -> Iterator[Document]:
        matches = compile_filter(filter)
        return (document for document in self._candidates(filter) if matches(document))

    def _candidates(self, filter: Filter) -> Sequence[Document]:
        """What an index would offer: the document of a bound id, the tenant's documents, or everything there is."""
        bound, tenant_id = filter.get("_id"), filter.get(FIELD)
        if isinstance(bound, Mapping) and isinstance(bound.get("a"), str):
            document = self._tenants.get(bound["a"], {}).get(bound["i"])
            return () if document is None else (document,)
        if isinstance(tenant_id, str):
            return tuple(self._tenants.get(tenant_id, {}).values())
        return [document for records in self._tenants.values() for document in records.values()]

    def _put(self, document: Document) -> Document:
        document = _stored(document)
        self._check_unique(document)
        self._tenants[document[FIELD]][document["_id"]["i"]] = document
        return document

    def _drop(self, document: Document) -> Document:
        return self._tenants[document[FIELD]].pop(document["_id"]["i"])

    def _check_unique(self, document: Document) -> None:
        for field in self._unique:
            if field in document:
                taken = compile_filter({"_id": {"$ne": document["_id"]}, field: document[field]})
                if any(map(taken, self._tenants[document[FIELD]].values())):
                    raise Conflict(_taken(field))


def _stored(document: Document) -> Document:
    """The document as a database would give it back, which refuses what is no BSON or not bound to its tenant."""
    try:
        stored = bson.decode(bson.encode(document), _CODEC)
    except (BSONError, ValueError, OverflowError, RecursionError) as error:
        raise BadRequest("The record or query has a value that the database cannot keep.") from error
    bound = stored.get("_id")
    if not isinstance(bound, dict) or list(bound) != ["a", "i"] or not bound["a"] or bound["a"] != stored.get(FIELD):
        raise GeneralError
    return stored


def _taken(field: str) -> str:
    return f"A record with this {field} exists already."


def _copy(value: Any) -> Any:
    if type(value) is dict:
        return {key: _copy(child) for key, child in value.items()}
    return [_copy(child) for child in value] if type(value) is list else value


def _tree(projection: Mapping[str, int]) -> Document:
    tree: Document = {"_id": {}}
    for path in projection:
        part = tree
        for name in path.split("."):
            part = part.setdefault(name, {})
    return tree


def _project(document: Document, tree: Document) -> Document:
    """The included fields in the document's own order; what lies below a path is kept only of objects."""
    projected: Document = {}
    for name, value in document.items():
        below = tree.get(name)
        if below is None:
            continue
        if not below:
            projected[name] = _copy(value)
        elif isinstance(value, (dict, list)):
            projected[name] = _project_below(value, below)
    return projected


def _project_below(value: Any, tree: Document) -> Any:
    if isinstance(value, dict):
        return _project(value, tree)
    return [_project_below(item, tree) for item in value if isinstance(item, (dict, list))]
