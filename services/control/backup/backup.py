"""Backup: a tenant's records into an archive, and out of one into a new tenant."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import bson
from pymongo.errors import BulkWriteError

from hooks.errors import BadRequest, Conflict, NotFound
from hooks.tenancy import FIELD
from hooks.tenant import Tenant
from services import search
from services.control.backup.anonymise import Change
from services.control.backup.archive import (
    FORMAT,
    VERSION,
    BrokenArchive,
    intact_end,
    open_archive,
    read_batches,
    read_head,
    write_batch,
)
from services.control.lifecycle import Lifecycle
from services.control.places import check_place
from services.control.tenants import COLLECTION as TENANTS
from services.control.tenants import Tenants, control_database
from services.database.deployment import Deployment
from services.database.faults import DRIVER_ERRORS, from_driver
from services.database.schema import CollectionSchema
from services.declaration import TenantDeclaration, check, searched_fields
from services.declaration.placement import PlacementDeclaration
from services.entities.registry import BY_COLLECTION
from services.placement.placements import Placements
from services.placement.shared import collections, empty
from services.store import Document

BATCH = 500
"""Documents that are read at a time, at most."""
BATCH_BYTES = 2 * 1024 * 1024
"""Their size, but for the last of them: whatever they hold, as text they are less than an archive's reader takes."""
LEFT_OUT = frozenset(
    {"sessions", "api_keys", "account_tokens", "identities", "login_attempts", "oauth_states", "oauth_codes"}
)
"""Collections by which somebody could log in: an archive is no key."""
DECLARED = ("name", "allowed_origins", "require_origin", "limits", "plan", "region", "auth", "services")
"""What of the catalogue's entry goes along."""
MARK = "imported_from"
"""The catalogue's field that says from which archive a tenant is being filled."""
PATIENCE = 60.0
"""Seconds for which the new tenant is waited for."""
_DUPLICATE = 11000
_NAME = re.compile(r"(plugin\.)?[A-Za-z][A-Za-z0-9_-]{0,62}")

Progress = Callable[[str, int], None]
"""Hears of a collection, and how many of its documents are done."""


class Backup:
    """Exports, imports and clones tenants. Secrets, signing keys and logins stay where they are."""

    def __init__(
        self, deployment: Deployment, placements: Placements, tenants: Tenants, lifecycle: Lifecycle, *, database: str
    ) -> None:
        self._deployment = deployment
        self._placements = placements
        self._tenants = tenants
        self._lifecycle = lifecycle
        self._control = control_database(database)

    async def export(self, app_id: str, file: Path, progress: Progress, *, resume: bool = False) -> int:
        """Writes a tenant to a file; how many documents. With `resume` it goes on where an earlier one was interrupted.

        It is no picture of one moment: what is written meanwhile may be in it or not. Each document is whole.

        Raises:
            NotFound: no such tenant. Conflict: the file exists; or the tenant was moved or deleted meanwhile, and the file has
                no end. BadRequest: it cannot go on with this file.
        """
        tenant = await self._tenant(app_id)
        await self._check_same(tenant)
        declared = await self._declared(app_id)
        done, place, count = await asyncio.to_thread(_begun, file, app_id, resume=resume)
        with await asyncio.to_thread(open_archive, file, is_new=not place) as out:
            out.seek(place)
            out.truncate()
            if not place:
                head = {"format": FORMAT, "version": VERSION, "app_id": app_id, "at": datetime.now(UTC).isoformat()}
                write_batch(out, {**head, "tenant": declared})
            async with self._data(tenant) as raw:
                for name in sorted({*await collections(raw)} - LEFT_OUT):
                    if name >= done[0]:
                        count += await self._export(
                            raw[name], tenant, out, done[1] if name == done[0] else None, progress
                        )
            # What was there may be gone with the tenant, or with the place from which it was read.
            await self._check_same(tenant)
            write_batch(out, {"end": True, "documents": count})
        return count

    async def fill(
        self,
        file: Path,
        app_id: str,
        progress: Progress,
        *,
        resume: bool = False,
        placement: PlacementDeclaration | None = None,
    ) -> int:
        """Makes a new tenant of what is in a file, at this place or where new ones are; how many documents it has.

        Raises:
            BrokenArchive: the file is none, is damaged, or has documents of another tenant than it says; the new tenant stays
                as far as it came, suspended. Conflict: the tenant exists; with `resume`, it is not of this archive, or is
                elsewhere than at `placement`; or it was moved or deleted meanwhile.
        """
        batches = read_batches(file)
        head = await asyncio.to_thread(read_head, batches)
        source: str = head["app_id"]
        mark = f"{source} {head['at']}"
        await self._make(app_id, head["tenant"], mark, placement, resume=resume)
        count = await self._pour(_documents(batches, source), source, app_id, progress, lambda _, document: document)
        await self._open(app_id)
        return count

    async def clone(
        self,
        source: str,
        app_id: str,
        change: Change,
        progress: Progress,
        *,
        named: Collection[str] = (),
        without: Collection[str] = (),
        placement: PlacementDeclaration | None = None,
    ) -> int:
        """Makes a new tenant of another one's records, each as `change` makes it, `without` some collections. `named` are
        those that the change means.

        Raises:
            NotFound: no such tenant. BadRequest: it has not all of the collections that are meant, and nothing was made.
            Conflict: the new one exists; or either was moved or deleted meanwhile.
        """
        tenant = await self._tenant(source)
        await self._check_same(tenant)
        await self._check_named(tenant, named)
        declared = await self._declared(source)
        await self._make(app_id, declared, f"{source} clone", placement, resume=False)

        async def documents() -> AsyncIterator[tuple[str, list[Document]]]:
            async with self._data(tenant) as raw:
                for name in sorted({*await collections(raw)} - LEFT_OUT - {*without}):
                    async for batch in _batches(raw[name], source, None):
                        yield name, batch

        count = await self._pour(documents(), source, app_id, progress, change)
        await self._check_same(tenant)
        await self._open(app_id)
        return count

    async def _check_same(self, tenant: Tenant) -> None:
        """Raises Conflict when a tenant is not any more where it was."""
        now = await self._tenants.get(tenant.id)
        if now is None or now.status in ("deleting", "deleted") or now.placement != tenant.placement:
            raise Conflict(f"The tenant '{tenant.id}' is being deleted, or was moved: begin again when it is at rest")

    async def _check_named(self, tenant: Tenant, named: Collection[str]) -> None:
        """Raises BadRequest for a name that is wrong: what it was to change would be copied as it is."""
        async with self._data(tenant) as raw:
            known = {*await collections(raw), *LEFT_OUT}
        known |= {service.collection or path for path, service in tenant.services.items()}
        if unknown := sorted({*named} - known):
            raise BadRequest(f"The tenant '{tenant.id}' has no collection {', '.join(unknown)[:200]}")

    async def _export(self, collection: Any, tenant: Tenant, out: Any, after: Any, progress: Progress) -> int:
        count = 0
        async for batch in _batches(collection, tenant.id, after):
            await asyncio.to_thread(write_batch, out, {"collection": collection.name, "count": len(batch)}, batch)
            count += len(batch)
            progress(collection.name, count)
        return count

    async def _make(
        self, app_id: str, declared: Mapping[str, Any], mark: str, place: PlacementDeclaration | None, *, resume: bool
    ) -> None:
        existing = await self._tenants.get(app_id)
        if existing is None:
            await self._create(app_id, declared, place)
            await self._mark(app_id, mark)
        elif not resume or await self._marked(app_id) != mark:
            raise Conflict(f"The tenant '{app_id}' exists already")
        elif place is not None:
            await check_place(existing, place, self._tenants.credentials)
        # A database of its own may take long to make.
        await self._lifecycle.made(app_id, PATIENCE)
        if (await self._tenant(app_id)).status != "suspended":
            # Nobody is to write to it, or to see a part of it.
            await self._lifecycle.settle((await self._lifecycle.suspend(app_id)).id, PATIENCE)

    async def _create(self, app_id: str, declared: Mapping[str, Any], placement: PlacementDeclaration | None) -> None:
        try:
            # Nothing else that an archive says: neither another id, nor a place.
            known = {name: declared[name] for name in DECLARED if name in declared}
            wanted = check({"tenants": [{**known, "id": app_id}]}).tenants[0]
        except Exception as error:
            raise BrokenArchive("The archive's tenant is not understood: it may be of another version") from error
        assert isinstance(wanted, TenantDeclaration)
        await self._lifecycle.create(wanted.model_copy(update={"placement": placement}))

    async def _open(self, app_id: str) -> None:
        await self._mark(app_id, None)
        await self._lifecycle.settle((await self._lifecycle.resume(app_id)).id, PATIENCE)

    async def _pour(
        self,
        documents: AsyncIterator[tuple[str, list[Document]]],
        source: str,
        app_id: str,
        progress: Progress,
        change: Change,
    ) -> int:
        tenant = await self._tenant(app_id)
        fields = searched_fields(tenant.services)
        counts: dict[str, int] = {}
        async with self._placements.administer(tenant) as handle:
            async for name, batch in documents:
                # Nothing is put where the tenant is no more.
                await self._check_same(tenant)
                if name not in counts:
                    # No collection without its validator, whatever an archive names.
                    await handle.ensure([CollectionSchema(name)])
                    if name in BY_COLLECTION:
                        # What the app was made with, such as its first client, gives way to what it had where it was.
                        await empty(handle.raw[name], app_id)
                searched = fields.get(name, ())
                moved = [_moved(document, source, app_id, searched, partial(change, name)) for document in batch]
                await _insert(handle.raw[name], moved)
                counts[name] = counts.get(name, 0) + len(batch)
                progress(name, counts[name])
        return sum(counts.values())

    @asynccontextmanager
    async def _data(self, tenant: Tenant) -> AsyncIterator[Any]:
        async with self._placements.administer(tenant) as handle:
            yield handle.raw

    async def _tenant(self, app_id: str) -> Tenant:
        tenant = await self._tenants.get(app_id)
        if tenant is None:
            raise NotFound(f"There is no tenant '{app_id}'")
        if tenant.is_control_plane:
            raise BadRequest("The control plane is no tenant to be copied")
        return tenant

    async def _declared(self, app_id: str) -> dict[str, Any]:
        try:
            found = await self._entries.find_one({"_id": app_id}, max_time_ms=2000)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        return {name: found[name] for name in DECLARED if found and name in found}

    async def _marked(self, app_id: str) -> str | None:
        try:
            found = await self._entries.find_one({"_id": app_id}, {MARK: 1}, max_time_ms=2000)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        return None if found is None else found.get(MARK)

    async def _mark(self, app_id: str, mark: str | None) -> None:
        change = {"$unset": {MARK: ""}} if mark is None else {"$set": {MARK: mark}}
        try:
            await self._entries.update_one({"_id": app_id}, change)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    @property
    def _entries(self) -> Any:
        return self._deployment.client[self._control][TENANTS]


async def _batches(collection: Any, app_id: str, after: Any) -> AsyncIterator[list[Document]]:
    """A tenant's documents in order of their ids, some at a time."""
    while True:
        chosen: dict[str, Any] = {FIELD: app_id}
        if after is not None:
            chosen["_id"] = {"$gt": after}
        try:
            documents = await _read(collection.find(chosen, sort=[("_id", 1)], limit=BATCH, max_time_ms=10_000))
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        if not documents:
            return
        after = documents[-1]["_id"]
        yield documents


async def _read(cursor: Any) -> list[Document]:
    """The documents of a cursor, until they are large enough together."""
    documents: list[Document] = []
    size = 0
    async with cursor:
        async for document in cursor:
            documents.append(document)
            size += len(bson.encode(document))
            if size >= BATCH_BYTES:
                break
    return documents


async def _documents(batches: Any, source: str) -> AsyncIterator[tuple[str, list[Document]]]:
    ended = False
    count = 0
    while (batch := await asyncio.to_thread(next, batches, None)) is not None:
        if ended:
            raise BrokenArchive("The archive goes on after its end")
        ended = batch.head.get("end") is True
        if ended:
            if batch.head.get("documents") != count:
                raise BrokenArchive("The archive has not as many documents as its end says: a part of it is missing")
            continue
        count += len(batch.documents)
        name = batch.head.get("collection")
        if not isinstance(name, str) or name in LEFT_OUT or not _NAME.fullmatch(name):
            raise BrokenArchive("The archive has a collection that cannot be filled")
        yield name, [_checked(document, source) for document in batch.documents]
    if not ended:
        raise BrokenArchive("The archive has no end: its export was interrupted, and can go on with --resume")


def _checked(document: Document, source: str) -> Document:
    """A document that is the archive's tenant's own: one of another has no business there."""
    id = document.get("_id")
    if not isinstance(id, dict) or list(id) != ["a", "i"] or id["a"] != source or document.get(FIELD) != source:
        raise BrokenArchive("The archive has a document of another tenant")
    return document


def _moved(
    document: Document, source: str, app_id: str, searched: tuple[str, ...], change: Callable[[Document], Document]
) -> Document:
    """A document as the new tenant's, after the change: what is kept beside it for searches is made of what it has then."""
    id = _checked(document, source)["_id"]["i"]
    moved = {**document, "_id": {"a": app_id, "i": id}, FIELD: app_id}
    moved.pop(search.FIELD, None)
    moved = {**change(moved), "_id": {"a": app_id, "i": id}, FIELD: app_id}
    moved.update(search.slots_of(moved, searched))
    return moved


async def _insert(collection: Any, documents: list[Document]) -> None:
    """Inserts what is not there yet: a batch that was interrupted comes again as a whole."""
    try:
        await collection.insert_many(documents, ordered=False)
    except BulkWriteError as error:
        ids = [document["_id"] for document in documents]
        failures = error.details.get("writeErrors", ())
        if any(failure["code"] != _DUPLICATE for failure in failures) or await _missing(collection, ids):
            raise from_driver(error) from error
    except DRIVER_ERRORS as error:
        raise from_driver(error) from error


async def _missing(collection: Any, ids: list[Document]) -> bool:
    """Whether one is not there: a duplicate of something else than an id keeps a document out for good."""
    app_id = ids[0]["a"]
    return bool(await collection.count_documents({FIELD: app_id, "_id": {"$in": ids}}) != len(ids))


def _begun(file: Path, app_id: str, *, resume: bool) -> tuple[tuple[str, Any], int, int]:
    """How far an export is: the collection and id after which it goes on, where in the file, and how many documents it has."""
    if not file.exists():
        return ("", None), 0, 0
    if not resume:
        raise Conflict(f"{file} exists: take another name, or go on with it by --resume")
    batches, place = intact_end(file)
    if not batches or batches[0].head.get("app_id") != app_id or batches[0].head.get("format") != FORMAT:
        raise BadRequest(f"{file} is no export of '{app_id}' that could go on")
    if batches[-1].head.get("end"):
        raise Conflict(f"{file} is complete")
    kept = [batch for batch in batches if "collection" in batch.head]
    if not all(isinstance(batch.head["collection"], str) and batch.documents for batch in kept):
        raise BadRequest(f"{file} is no export of '{app_id}' that could go on")
    count = sum(batch.head["count"] for batch in kept)
    if not kept:
        return ("", None), place, 0
    return (kept[-1].head["collection"], kept[-1].documents[-1]["_id"]), place, count
