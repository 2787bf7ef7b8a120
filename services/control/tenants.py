"""Tenants as the control plane keeps them: created, listed and changed here, by the command line and by services alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from hooks.errors import BadRequest, Conflict, NotFound
from hooks.tenant import RESERVED_IDS, TENANT_ID, Limits, Placement, Rate, Tenant
from services import audit, users
from services.accounts import tokens as account_tokens
from services.authentication import api_keys, identities, ledger, oauth_states
from services.control import public_keys
from services.control.words import refill
from services.database.deployment import Deployment
from services.database.faults import DRIVER_ERRORS, from_driver
from services.database.schema import CollectionSchema, Index, Words
from services.declaration import (
    Declaration,
    ServiceDeclaration,
    TenantDeclaration,
    auth_settings,
    service_declarations,
)
from services.entities import registry as entities
from services.store import Document, Namespace

_T = TypeVar("_T")

COLLECTION = "tenants"
TOMBSTONES = "tombstones"
"""Ids of deleted tenants, which are never used again."""
OWN_COLLECTIONS: tuple[CollectionSchema, ...] = (
    *users.COLLECTIONS,
    *ledger.COLLECTIONS,
    *identities.COLLECTIONS,
    *oauth_states.COLLECTIONS,
    *api_keys.COLLECTIONS,
    *account_tokens.COLLECTIONS,
    *audit.COLLECTIONS,
    *entities.COLLECTIONS,
)
"""What Roost itself keeps of every tenant."""


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

    def __init__(self, deployment: Deployment, *, database: str, reserved: frozenset[str] = RESERVED_IDS) -> None:
        """`database` names the database of shared tenant data; `reserved` are ids that no new tenant gets."""
        self._deployment = deployment
        self._reserved = reserved
        self._database = database
        self._control = control_database(database)

    @property
    def namespace(self) -> Namespace:
        """Where the entries are kept."""
        return Namespace(self._control, COLLECTION)

    async def get(self, id: str) -> Tenant | None:
        """The tenant, or None."""
        found = await self._stored(id)
        return None if found is None else to_tenant(found)

    async def all(self) -> AsyncIterator[Tenant]:
        """All tenants in order of their ids."""
        try:
            async for found in self._documents.find({}, sort=[("_id", 1)], max_time_ms=30_000):
                yield to_tenant(found)
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
        for tenant in declaration.tenants:
            if stored[tenant.id] is not None:
                await self.prepare_collections(tenant.services)
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

        return await self._deployment.transaction(write_all)

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

    async def prepare_collections(self, services: Mapping[str, ServiceDeclaration]) -> None:
        """Brings about the validators and indexes that Roost itself and the declared services need."""
        await self.prepare_own_collections()
        schemas: dict[str, tuple[Index | Words, ...]] = {}
        for path, service in services.items():
            name = service.collection or path
            schemas[name] = (*schemas.get(name, ()), *_indexes(service))
        await self._ensure([CollectionSchema(name, tuple(dict.fromkeys(found))) for name, found in schemas.items()])

    async def prepare_own_collections(self) -> None:
        """Brings about what Roost itself keeps, also for tenants that an earlier version has made."""
        await self._ensure(OWN_COLLECTIONS)

    async def _ensure(self, schemas: Iterable[CollectionSchema]) -> None:
        # Side by side: each waits for the database's journal.
        await asyncio.gather(*(self._deployment.ensure(self._database, schema) for schema in schemas))

    async def prepare_catalogue(self) -> None:
        """Brings about the catalogue's own indexes, and public keys for tenants that an earlier version has made."""
        try:
            await public_keys.prepare(self._documents)
            await self._documents.create_index([("updated_at", 1)], name="updated_at_1")
            await self._documents.create_index([("status", 1)], name="status_1")
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

    async def _write_one(self, declared: TenantDeclaration, creator: str | None) -> Change:
        wanted = declared.stored()
        now = datetime.now(UTC)
        entries = self._deployment.collection(self.namespace)
        found = await entries.find({"_id": declared.id}, limit=1)
        if not found:
            fresh = {"_id": declared.id, "status": "provisioning", "epoch": 1, **wanted}
            fresh["public_keys"] = [public_keys.fresh()]
            fresh["placement"] = {"model": "shared", "cluster": "default", "database": self._database}
            fresh |= {"created_by": creator, "created_at": now, "updated_at": now, "status_changed_at": now}
            await entries.insert([fresh])
            return Change(declared.id, "created")
        kept = found[0]
        if kept.get("status") == "deleting":
            raise Conflict(f"The app '{declared.id}' is being deleted")
        withdrawn = tuple(sorted(set(kept.get("services", {})) - set(wanted["services"])))
        if all(kept.get(key) == value for key, value in wanted.items()):
            return Change(declared.id, "unchanged")
        await entries.find_one_and_update(
            {"_id": declared.id}, {"$set": {**wanted, "updated_at": now}, "$inc": {"epoch": 1}}
        )
        return Change(declared.id, "updated", withdrawn)

    async def _refill(self, declaration: Declaration, stored: Mapping[str, Document | None]) -> None:
        try:
            for tenant in declaration.tenants:
                await refill(self._deployment.client[self._database], tenant, stored[tenant.id])
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


def _indexes(service: ServiceDeclaration) -> Iterator[Index | Words]:
    """What a service needs besides the listing by id: its own id, and what is declared."""
    if service.id != "_id":
        yield Index((("app_id", 1), (service.id, 1)), unique=True)
    for fields in service.indexes:
        keys = [_key(field) for field in fields]
        # Sorted pages end with the id: see `services/mongo.py`.
        yield Index((("app_id", 1), *keys, ("_id", keys[-1][1])))
    for fields in service.unique:
        yield Index((("app_id", 1), *map(_key, fields)), unique=True)
    if service.search:
        yield Words()


def _key(field: str) -> tuple[str, int]:
    return (field[1:], -1) if field.startswith("-") else (field, 1)


def to_tenant(document: Mapping[str, Any] | Document) -> Tenant:
    """The snapshot of a catalogue entry."""
    placement = document.get("placement", {})
    return Tenant(
        id=document["_id"],
        name=document["name"],
        status=document.get("status", "ready"),
        epoch=document.get("epoch", 1),
        allowed_origins=frozenset(document.get("allowed_origins", ())),
        auth=auth_settings(document.get("auth", {})),
        placement=Placement(**placement),
        services=service_declarations(document.get("services", {})),
        is_control_plane=document.get("control_plane", False),
        public_keys=tuple(document.get("public_keys", ())),
        is_active=document.get("is_active", True),
        require_origin=document.get("require_origin", False),
        limits=to_limits(document.get("limits", {})),
        plan=document.get("plan", "default"),
        region=document.get("region"),
        sync_exclude=tuple(document.get("sync_exclude", ())),
        settings_rev=document.get("settings_rev", 0),
    )


def to_limits(document: Mapping[str, Any]) -> Limits:
    """The limits in a catalogue entry."""
    rates = {
        kind: {scope: Rate(**rate) for scope, rate in scopes.items()}
        for kind, scopes in document.get("rates", {}).items()
    }
    return Limits(**{**document, "rates": rates})
