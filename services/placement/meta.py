"""`_meta`: the document by which a database says whose it is, and how far its schema is (DB-6, DB-7).

A database that says it is another tenant's is never used, whatever the catalogue says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import structlog

from services.database.faults import DRIVER_ERRORS, from_driver
from services.database.schema import CollectionSchema
from services.placement.provider import unavailable
from services.store import Document

log = structlog.get_logger()

COLLECTION = "_meta"
_ID = {"_id": "meta"}

SCHEMA_VERSION = 100
"""What this version of Roost makes of a database: the hundreds are the major part, which says who can still read it."""
FIRST_VERSION = 100
"""What a database is that says nothing."""
MIN_SUPPORTED = 100
"""What it can still serve."""


async def read(raw: Any) -> Document | None:
    """What a database says of itself; None when it says nothing."""
    try:
        found: Document | None = await raw[COLLECTION].find_one(_ID, max_time_ms=2000)
    except DRIVER_ERRORS as error:
        raise from_driver(error) from error
    return found


async def claim(raw: Any, app_id: str, *, version: int = SCHEMA_VERSION) -> Document:
    """Says that a database is the tenant's, unless it says something already; what it says.

    Raises:
        Unavailable: it is another tenant's.
    """
    fresh = {"app_id": app_id, "schema_version": version, "created_at": datetime.now(UTC)}
    try:
        await raw[COLLECTION].update_one(_ID, {"$setOnInsert": fresh}, upsert=True)
    except DRIVER_ERRORS as error:
        raise from_driver(error) from error
    found = await read(raw)
    check_owner(found, app_id)
    assert found is not None
    return found


async def mark(raw: Any, **fields: Any) -> None:
    """Adds to what a database says of itself; None takes a field away."""
    kept = {name: value for name, value in fields.items() if value is not None}
    gone = {name: "" for name, value in fields.items() if value is None}
    change = {**({"$set": kept} if kept else {}), **({"$unset": gone} if gone else {})}
    try:
        await raw[COLLECTION].update_one(_ID, change)
    except DRIVER_ERRORS as error:
        raise from_driver(error) from error


def check_owner(found: Document | None, app_id: str) -> None:
    """The guard against the wrong database.

    Raises:
        Unavailable: it is not the tenant's.
    """
    if found is None or found.get("app_id") != app_id:
        log.error("a database is not the tenant's", tenant=app_id, owner=None if found is None else found.get("app_id"))
        raise unavailable("The app's database is not in order: its operator has to look at it")


def check_served(found: Document, app_id: str) -> None:
    """Whether this version of Roost can serve a database as it is.

    Raises:
        Unavailable: its schema is too old, or of a later major version; or its data has moved on.
    """
    version = int(found.get("schema_version", 0))
    if version < MIN_SUPPORTED or version // 100 > SCHEMA_VERSION // 100:
        log.error("a database has a schema that cannot be served", tenant=app_id, version=version)
        raise unavailable("The app's database is not of the server's version: its operator has to migrate it")
    if "deleted_at" in found or "moved_at" in found:
        raise unavailable("The app's data is not in this database any more")


def fingerprint(schemas: Iterable[CollectionSchema]) -> str:
    """A short name for all that the schemas ask for, so that what is there already need not be asked for again."""
    parts = sorted(f"{schema.name}:{','.join(index.name for index in schema.indexes)}" for schema in schemas)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
