"""Records that are there already become searchable, or are no longer, when a declaration says so."""

from __future__ import annotations

from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

from services.declaration import TenantDeclaration, searched_fields, service_declarations
from services.search import FIELD, backfill
from services.store import Document

BATCH = 1_000


async def refill(database: AsyncDatabase[Document], declared: TenantDeclaration, stored: Document | None) -> None:
    """Gives the records of each collection whose searched fields are others than before the words of those fields.

    `stored` is the catalogue's entry that the declaration replaces; None is a new tenant, which has no records.
    """
    if stored is None:
        return
    before = searched_fields(service_declarations(stored.get("services", {})))
    wanted = searched_fields(declared.services)
    for name in sorted(before.keys() | wanted.keys()):
        if before.get(name, ()) != wanted.get(name, ()):
            await _refill(database, name, declared.id, wanted.get(name, ()))


async def _refill(database: AsyncDatabase[Document], name: str, tenant_id: str, fields: tuple[str, ...]) -> None:
    chosen: dict[str, Any] = {"app_id": tenant_id}
    if not fields:
        chosen[FIELD] = {"$exists": True}
    while True:
        cursor = database[name].find(chosen, {"_id": 1}, sort=[("_id", 1)], limit=BATCH, max_time_ms=2000)
        ids = [document["_id"] for document in await cursor.to_list()]
        if not ids:
            return
        await database[name].update_many({"app_id": tenant_id, "_id": {"$in": ids}}, backfill(fields))
        chosen["_id"] = {"$gt": ids[-1]}
