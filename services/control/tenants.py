"""Tenants as the control plane keeps them: created, listed and changed here, by the command line and by services alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import structlog
from pymongo import IndexModel

from hooks.errors import BadRequest, Conflict, NotFound
from hooks.tenant import RESERVED_IDS, TENANT_ID, Tenant
from services.control import public_keys
from services.control.places import OWN_URI, own_uri, place
from services.control.schemas import OWN_COLLECTIONS, schemas_of
from services.control.snapshot import to_tenant
from services.control.words import refill
from services.database.deployment import Deployment
from services.database.faults import DRIVER_ERRORS, from_driver
from services.database.schema import CollectionSchema, ensure_indexes
from services.declaration import (
    Declaration,
    ServiceDeclaration,
    TenantDeclaration,
)
from services.placement.dedicated import Credentials
from services.placement.placements import SHARED, Placements
from services.placement.shared import SharedProvider
from services.placement.writes import Writes
from services.store import Document, Namespace

log = structlog.get_logger()

_T = TypeVar("_T")

COLLECTION = "tenants"
INDEXES = (
    # There is one control plane.
    IndexModel(
        [("control_plane", 1)],
        name="control_plane_unique",
        unique=True,
        partialFilterExpression={"control_plane": True},
    ),
    public_keys.UNIQUE,
    IndexModel([("updated_at", 1)], name="updated_at_1"),
    IndexModel([("status", 1)], name="status_1"),
    # By whom apps are counted.
    IndexModel([("created_by", 1)], name="created_by_1"),
)
EXCLUDED = "sync_exclude"
LookAt = Callable[[str, int], Awaitable[None]]
"""Has a tenant, as of an epoch, compared with the control plane."""
TOMBSTONES = "tombstones"
"""Ids of deleted tenants, which are never used again."""
_UNPREPARED = ("provisioning", "failed")
"""The states in which a tenant's database may not be there yet."""


@dataclass(frozen=True, slots=True)
class Change:
    """What applying a declaration did to one tenant: `created`, `updated` or `unchanged`, and the services it lost."""

    tenant: str
    outcome: str
    withdrawn: tuple[str, ...] = ()


def control_database(database: str) -> str:
    """The name of the control plane's own database beside the tenants' data."""
    return f"{database}_control"


class Tenants:
    """The repository of tenants. Every change raises the tenant's epoch, which is how running servers hear of it."""

    def __init__(
        self,
        deployment: Deployment,
        *,
        database: str,
        reserved: frozenset[str] = RESERVED_IDS,
        look_at: LookAt | None = None,
    ) -> None:
        """`database` names the database of shared tenant data; `reserved` are ids that no new tenant gets.

        `look_at` hears, inside of the transaction, of a tenant that wants other copies of what the control plane has.
        """
        self._deployment = deployment
        self._look_at = look_at
        self._reserved = reserved
        self._database = database
        self._control = control_database(database)
        self.placements = Placements({SHARED: SharedProvider(deployment, database=database)}, OWN_COLLECTIONS)
        """Where tenants' data is kept; who composes a server registers the other models here."""
        self.writes = Writes()
        """The process's gate for writes."""
        self.credentials: Credentials | None = None
        """Where the connection strings are kept that a declaration names by `uri_env`."""

    async def prepare(self) -> None:
        """Creates the catalogue's indexes: before its first entry, since those of an empty collection cost nothing."""
        await ensure_indexes(self._documents, *INDEXES)

    @property
    def namespace(self) -> Namespace:
        """Where the entries are kept."""
        return Namespace(self._control, COLLECTION)

    async def get(self, id: str) -> Tenant | None:
        """The tenant, or None."""
        found = await self._stored(id)
        return None if found is None else to_tenant(found)

    async def document(self, id: str) -> Document:
        """A tenant's entry as it is kept.

        Raises:
            NotFound: there is no such tenant.
        """
        found = await self._stored(id)
        if found is None:
            raise NotFound(f"No record found for id '{id[:64]}'")
        return found

    async def page(
        self, filter: Mapping[str, Any], *, sort: Sequence[tuple[str, int]], skip: int, limit: int
    ) -> tuple[int, list[Document]]:
        """How many entries match, and a page of them."""
        try:
            total = int(await self._documents.count_documents(filter, maxTimeMS=2000))
            if not limit:
                return total, []
            cursor = self._documents.find(filter, sort=[*sort], skip=skip, limit=limit, max_time_ms=2000)
            return total, await cursor.to_list()
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    async def all(self) -> AsyncIterator[Tenant]:
        """All tenants in order of their ids. One whose configuration cannot be understood is left out: it stops nobody else."""
        try:
            async for found in self._documents.find({}, sort=[("_id", 1)], max_time_ms=30_000):
                try:
                    tenant = to_tenant(found)
                except (ValueError, TypeError, LookupError, AttributeError):
                    log.exception("an app's configuration cannot be understood", tenant=found["_id"])
                    continue
                yield tenant
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    async def write(
        self,
        declaration: Declaration,
        begin: Callable[[TenantDeclaration], Awaitable[None]],
        creator: str | None = None,
        *,
        only_new: bool = False,
    ) -> list[Change]:
        """Writes the declared tenants, all of them or none. A tenant's services become exactly those declared.

        New ones are in state `provisioning`, and `begin` is called with each in the same transaction: only
        `services/control/lifecycle.py` knows what else belongs to a tenant. `creator` is the user who makes them.
        Data of a service that is no longer declared stays. Writing the same twice changes nothing.

        Raises:
            Conflict: one is being deleted; or, with `only_new`, there is one already.
        """
        # Before the catalogue changes: what fails here is done again when the same is applied again.
        stored = {tenant.id: await self._stored(tenant.id) for tenant in declaration.tenants}
        for declared in declaration.tenants:
            kept = stored[declared.id]
            if kept is not None and kept.get("status") not in _UNPREPARED:
                await self.prepare_collections(to_tenant(kept), declared.services)
        await self._refill(declaration, stored)

        async def write_all() -> list[Change]:
            changes = []
            for declared in declaration.tenants:
                change = await self._write_one(declared, creator)
                if change.outcome == "created":
                    await begin(declared)
                elif only_new:
                    raise Conflict(f"The tenant '{declared.id}' exists already")
                changes.append(change)
            return changes

        new = [
            one for one in declaration.tenants if (stored[one.id] or {"status": "failed"}).get("status") in _UNPREPARED
        ]
        uris = {declared.id: own_uri(declared.id, declared.placement) for declared in new}
        changes = await self._deployment.transaction(write_all)
        for id, uri in uris.items():
            if uri is not None and self.credentials is not None:
                await self.credentials.put(id, OWN_URI, uri)
        return changes

    async def check_new(self, id: str) -> None:
        """Refuses an id that no new tenant may have (CP-5, CP-6).

        Raises:
            BadRequest: the grammar, the reserved ids, or a deleted app forbid it.
        """
        if not TENANT_ID.fullmatch(id):
            raise BadRequest("An app's id has 3 to 63 lower case letters, digits and inner hyphens")
        if id in self._reserved:
            raise BadRequest(f"'{id}' is reserved: choose another id")
        if await self.remains(id) is not None:
            raise BadRequest(f"'{id}' was the id of an app that is deleted: ids are not used again")

    async def remains(self, id: str) -> Tenant | None:
        """What is still known of a tenant that was deleted: its id and its name."""
        found = await self._deployment.collection(Namespace(self._control, TOMBSTONES)).find({"_id": id}, limit=1)
        return Tenant(id, found[0]["name"], status="deleted") if found else None

    async def move(self, id: str, before: Sequence[str], after: str) -> Tenant | None:
        """Brings a tenant from one of some states into another, which running servers hear of; None if it is in none.

        Raises:
            FeathersError: as `services.store.Collection`.
        """
        change = {
            "$set": {"status": after, "status_changed_at": datetime.now(UTC)},
            "$inc": {"epoch": 1},
            "$currentDate": {"updated_at": True},
        }
        moved = {"_id": id, "status": {"$in": [*before]}}
        found = await self._deployment.collection(self.namespace).find_one_and_update(moved, change)
        return None if found is None else to_tenant(found)

    async def transaction(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """As `services.store.Store`: for changes of the catalogue that belong together."""
        return await self._deployment.transaction(work)

    async def bury(self, tenant: Tenant, operation: str) -> None:
        """Takes a tenant out of the catalogue for good, and keeps its id from being used again (CP-6)."""

        async def replace() -> None:
            entries = self._deployment.collection(self.namespace)
            tombstones = self._deployment.collection(Namespace(self._control, TOMBSTONES))
            if await entries.find_one_and_delete({"_id": tenant.id, "status": "deleting"}) is not None:
                record = {
                    "_id": tenant.id,
                    "name": tenant.name,
                    "operation": operation,
                    "deleted_at": datetime.now(UTC),
                }
                await tombstones.insert([record])

        await self._deployment.transaction(replace)

    async def prepare_database(self, tenant: Tenant) -> None:
        """Brings a tenant's database about, with what Roost itself keeps in it.

        Raises:
            Unavailable: it cannot be had.
        """
        placed = await self.placements.provision(tenant, tenant.placement)
        if placed != tenant.placement:
            change = {"$set": {"placement": asdict(placed)}, "$inc": {"epoch": 1}}
            await self._deployment.collection(self.namespace).find_one_and_update({"_id": tenant.id}, change)

    async def prepare_collections(
        self, tenant: Tenant, services: Mapping[str, ServiceDeclaration] | None = None
    ) -> None:
        """Brings about the validators and indexes that the tenant's services need, or these, wherever its data is."""
        schemas = schemas_of(tenant.services if services is None else services)
        if tenant.placement.model == SHARED:
            await self.prepare_own_collections()
            await self._ensure(schemas)
        else:
            await self.placements.ensure(tenant, schemas)

    async def prepare_own_collections(self) -> None:
        """Brings about what Roost itself keeps, also for tenants that an earlier version has made."""
        await self._ensure(OWN_COLLECTIONS)

    async def _ensure(self, schemas: Iterable[CollectionSchema]) -> None:
        await self._deployment.ensure(self._database, *schemas)

    async def prepare_catalogue(self) -> None:
        """Brings about public keys for tenants that an earlier version has made."""
        try:
            await public_keys.complete(self._documents)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    async def touch(self, id: str) -> None:
        """Raises a tenant's epoch, so that running servers look at it again.

        Raises:
            NotFound: there is no such tenant.
        """
        try:
            change = {"$inc": {"epoch": 1}, "$currentDate": {"updated_at": True}}
            found = await self._documents.find_one_and_update({"_id": id}, change)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        if found is None:
            raise NotFound(f"There is no tenant '{id}'")

    async def count_settings(self, id: str) -> Tenant:
        """Counts a change of a tenant's settings, which running servers hear of; the tenant as it is then.

        Raises:
            NotFound: there is no such tenant.
        """
        change = {"$inc": {"epoch": 1, "settings_rev": 1}, "$currentDate": {"updated_at": True}}
        found = await self._deployment.collection(self.namespace).find_one_and_update({"_id": id}, change)
        if found is None:
            raise NotFound(f"There is no tenant '{id}'")
        return to_tenant(found)

    async def _write_one(self, declared: TenantDeclaration, creator: str | None) -> Change:
        wanted = declared.stored()
        now = datetime.now(UTC)
        entries = self._deployment.collection(self.namespace)
        found = await entries.find({"_id": declared.id}, limit=1)
        if not found:
            fresh = {"_id": declared.id, "status": "provisioning", "epoch": 1, **wanted}
            fresh["public_keys"] = [public_keys.fresh()]
            fresh["placement"] = asdict(place(declared, self._database))
            fresh |= {"created_by": creator, "created_at": now, "updated_at": now, "status_changed_at": now}
            await entries.insert([fresh])
            return Change(declared.id, "created")
        kept = found[0]
        if kept.get("status") == "deleting":
            raise Conflict(f"The app '{declared.id}' is being deleted")
        withdrawn = tuple(sorted(set(kept.get("services", {})) - set(wanted["services"])))
        if all(kept.get(key) == value for key, value in wanted.items()):
            return Change(declared.id, "unchanged")
        changed = await entries.find_one_and_update(
            {"_id": declared.id}, {"$set": {**wanted, "updated_at": now}, "$inc": {"epoch": 1}}
        )
        if self._look_at is not None and changed is not None and EXCLUDED in wanted:
            await self._look_at(declared.id, changed["epoch"])
        return Change(declared.id, "updated", withdrawn)

    async def _refill(self, declaration: Declaration, stored: Mapping[str, Document | None]) -> None:
        try:
            for declared in declaration.tenants:
                kept = stored[declared.id]
                if kept is None or kept.get("status") in _UNPREPARED:
                    continue
                tenant = to_tenant(kept)
                with self.writes.one(tenant.id, tenant.placement):
                    async with self.placements.administer(tenant) as handle:
                        await refill(handle.raw, declared, kept)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    async def _stored(self, id: str) -> Document | None:
        try:
            found: Document | None = await self._documents.find_one({"_id": id}, max_time_ms=2000)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        return found

    @property
    def _documents(self) -> Any:
        return self._deployment.client[self._control][COLLECTION]
