"""Adoption: the collections of an application that had a database for itself become those of one app (CO-6).

The source is only read. Each document is copied to where the app's data is, by whichever isolation model, with its id bound to
the app, a batch at a time. What is there already is left alone, so that an adoption which was interrupted goes on; it can be
taken back while the source has the originals.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from hooks.errors import BadRequest
from hooks.tenancy import FIELD
from hooks.tenant import Tenant
from services.database.deployment import Deployment
from services.database.faults import DRIVER_ERRORS, from_driver
from services.database.schema import CollectionSchema
from services.declaration import RESERVED_COLLECTIONS
from services.placement.placements import Placements
from services.placement.writes import Writes
from services.store import Document

BATCH = 500
"""Documents of one step."""


@dataclass(frozen=True, slots=True)
class Adopted:
    """A collection: how many documents the source has, and how many of them were written or deleted."""

    collection: str
    found: int
    changed: int


class Adoption:
    """Copies from the database `source` of the server's own deployment."""

    def __init__(self, deployment: Deployment, placements: Placements, writes: Writes, *, source: str) -> None:
        """`placements` say where apps' data is; `writes` is the process's gate."""
        self._deployment = deployment
        self._placements = placements
        self._writes = writes
        self._source = source

    async def check(self, tenant: Tenant) -> list[str]:
        """The collections that can be adopted, all of them or none.

        Raises:
            BadRequest: there are none, or there is something that could not be reached afterwards; the sentence names it.
        """
        if self._source == tenant.placement.database:
            raise BadRequest("Adopted is from another database than the one that keeps the app's data")
        try:
            source = self._deployment.client[self._source]
            names = sorted(name for name in await source.list_collection_names() if not name.startswith("system."))
            for name in names:
                if name in RESERVED_COLLECTIONS:
                    raise BadRequest(f"'{name}' is a collection of Roost's own: rename it before")
                if await source[name].find_one({"$or": _UNFIT}, {"_id": 1}, max_time_ms=60_000) is not None:
                    raise BadRequest(
                        f"'{name}' has documents with '{FIELD}', or an id that is neither an ObjectId nor a text of its own"
                    )
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        if not names:
            raise BadRequest(f"The database '{self._source}' has no collections")
        return names

    async def adopt(self, tenant: Tenant, name: str) -> Adopted:
        """Copies a collection, after its validator and indexes are there.

        Raises:
            Unavailable: the app's data cannot be reached, or is being moved.
        """
        found = written = 0
        async with self._placements.administer(tenant) as handle:
            await handle.ensure([CollectionSchema(name)])
            target = handle.raw[name]
            try:
                async for batch in self._batches(name):
                    found += len(batch)
                    bound = {_key(document["_id"]): _bound(tenant, document) for document in batch}
                    own = {FIELD: tenant.id, "_id": {"$in": [document["_id"] for document in bound.values()]}}
                    async for there in target.find(own, {"_id": 1}):
                        bound.pop(_key(there["_id"]["i"]), None)
                    if bound:
                        with self._writes.one(tenant.id, tenant.placement):
                            await target.insert_many([*bound.values()])
                        written += len(bound)
            except DRIVER_ERRORS as error:
                raise from_driver(error) from error
        return Adopted(name, found, written)

    async def take_back(self, tenant: Tenant, name: str) -> Adopted:
        """Deletes the copies of what the source still has; records that were made since stay.

        Raises:
            Unavailable: as `adopt`.
        """
        found = deleted = 0
        async with self._placements.administer(tenant) as handle:
            target = handle.raw[name]
            try:
                async for batch in self._batches(name):
                    found += len(batch)
                    ids = [_bound(tenant, document)["_id"] for document in batch]
                    with self._writes.one(tenant.id, tenant.placement):
                        outcome = await target.delete_many({FIELD: tenant.id, "_id": {"$in": ids}})
                    deleted += outcome.deleted_count
            except DRIVER_ERRORS as error:
                raise from_driver(error) from error
        return Adopted(name, found, deleted)

    async def _batches(self, name: str) -> AsyncIterator[list[Document]]:
        batch: list[Document] = []
        async for document in self._deployment.client[self._source][name].find({}, sort=[("_id", 1)]):
            batch.append(document)
            if len(batch) == BATCH:
                yield batch
                batch = []
        if batch:
            yield batch


_UNFIT: list[dict[str, Any]] = [
    {FIELD: {"$exists": True}},
    {"_id": {"$not": {"$type": ["objectId", "string"]}}},
    # These would be taken for ObjectIds.
    {"_id": {"$regex": "^[0-9a-fA-F]{24}$"}},
    {"_id": ""},
]


def _bound(tenant: Tenant, document: Document) -> Document:
    return {**document, "_id": {"a": tenant.id, "i": document["_id"]}, FIELD: tenant.id}


def _key(id: Any) -> tuple[str, str]:
    return type(id).__name__, str(id)
