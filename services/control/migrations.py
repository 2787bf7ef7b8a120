"""Migrations: every database is brought to the schema of this version, one tenant after the other (DB-7, MG-1).

A migration is for one tenant's records at one place. Expand first, so that the older servers that still run can go on; fill
in batches by id, so that it can be interrupted; contract in a later version. What was done is recorded with each step: whoever
runs them again goes on where they ended. Never is there a statement over all tenants.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog

from hooks.errors import Conflict, FeathersError
from hooks.tenant import SERVING, Tenant
from services.control.tenants import COLLECTION, Tenants, control_database
from services.database.deployment import Deployment
from services.database.faults import DRIVER_ERRORS, from_driver
from services.placement import meta
from services.placement.placements import SHARED
from services.placement.provider import Handle

log = structlog.get_logger()

LEASE_MS = 300_000
"""Milliseconds for which a process has a tenant for itself: the longest that a tenant's migration is expected to take."""
AT_ONCE = 4
MOST_FAILURES = 3
"""Tenants that may fail before no further one is begun."""


@dataclass(frozen=True, slots=True)
class Migration:
    """From the version before to `version`. `run` *ensures*: it may be called again after it was interrupted."""

    version: int
    name: str
    run: Callable[[Tenant, Handle], Awaitable[None]]


MIGRATIONS: tuple[Migration, ...] = ()
"""All of them in their order. The first version of a database has none behind it."""


@dataclass(slots=True)
class Report:
    """What was done, or would be, by tenant."""

    done: dict[str, list[str]] = field(default_factory=dict)
    """The names of the migrations."""
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    is_stopped: bool = False
    """Too many have failed: the rest was not begun."""


class Migrations:
    """Walks the catalogue."""

    def __init__(
        self,
        deployment: Deployment,
        tenants: Tenants,
        *,
        database: str,
        known: Sequence[Migration] = MIGRATIONS,
    ) -> None:
        self._deployment = deployment
        self._control = control_database(database)
        self._tenants = tenants
        self._known = sorted(known, key=lambda migration: migration.version)
        self._target = max([meta.SCHEMA_VERSION, *(migration.version for migration in known)])
        self._holder = secrets.token_urlsafe(9)

    async def run(
        self, *, canaries: Iterable[str] = (), at_once: int = AT_ONCE, most: int = MOST_FAILURES, dry_run: bool = False
    ) -> Report:
        """Migrates every tenant: first the canaries, one by one, and the others only if none of those has failed.

        Raises:
            Conflict: a canary is no tenant.
        """
        report = Report()
        every = {tenant.id: tenant async for tenant in self._tenants.all()}
        first = [*dict.fromkeys(canaries)]
        for id in first:
            if id not in every:
                raise Conflict(f"There is no tenant '{id}'")
            await self._one(every[id], report, dry_run=dry_run)
        report.is_stopped = any(id in report.failed for id in first)
        waiting = iter([tenant for id, tenant in every.items() if id not in first])

        async def work() -> None:
            while not report.is_stopped and (tenant := next(waiting, None)) is not None:
                await self._one(tenant, report, dry_run=dry_run)
                report.is_stopped = len(report.failed) >= most

        await asyncio.gather(*(work() for _ in range(at_once)))
        return report

    async def _one(self, tenant: Tenant, report: Report, *, dry_run: bool) -> None:
        if tenant.status not in (*SERVING, "suspended") or tenant.status == "migrating":
            report.skipped[tenant.id] = tenant.status
            return
        try:
            async with self._leased(tenant), self._tenants.placements.administer(tenant) as handle:
                report.done[tenant.id] = await self._migrate(tenant, handle, dry_run=dry_run)
        except FeathersError as error:
            report.failed[tenant.id] = error.message
        except Exception as error:
            log.exception("a migration failed", tenant=tenant.id)
            report.failed[tenant.id] = f"{type(error).__name__}: the log has the cause"

    async def _migrate(self, tenant: Tenant, handle: Handle, *, dry_run: bool) -> list[str]:
        version = await self._version(tenant, handle)
        if version // 100 > self._target // 100:
            raise Conflict(f"The database is of the later version {version}")
        names = []
        for migration in self._known:
            if migration.version > version:
                names.append(migration.name)
                if not dry_run:
                    with self._tenants.writes.one(tenant.id, tenant.placement):
                        await migration.run(tenant, handle)
                    await self._record(tenant, handle, migration.version)
        if not dry_run:
            await self._tenants.prepare_database(tenant)
            await self._tenants.prepare_collections(tenant)
            await self._record(tenant, handle, max(version, self._target))
        return names

    async def _version(self, tenant: Tenant, handle: Handle) -> int:
        if tenant.placement.model == SHARED:
            found = await self._documents.find_one({"_id": tenant.id}, {"schema_version": 1})
        else:
            found = await meta.read(handle.raw)
        return int((found or {}).get("schema_version", meta.FIRST_VERSION))

    async def _record(self, tenant: Tenant, handle: Handle, version: int) -> None:
        if tenant.placement.model != SHARED:
            await meta.mark(handle.raw, schema_version=version)
        await self._change({"_id": tenant.id}, {"schema_version": version})

    @asynccontextmanager
    async def _leased(self, tenant: Tenant) -> AsyncIterator[None]:
        """Has the tenant for this process alone.

        Raises:
            Conflict: another process migrates it.
        """
        free = {"$expr": {"$lte": [{"$ifNull": ["$schema_lease.until", 0]}, "$$NOW"]}}
        until = {"holder": self._holder, "until": {"$add": ["$$NOW", LEASE_MS]}}
        if not await self._change({"_id": tenant.id, **free}, {"schema_lease": until}):
            raise Conflict("Another process migrates this app")
        try:
            yield
        finally:
            await self._change({"_id": tenant.id, "schema_lease.holder": self._holder}, {"schema_lease": None})

    async def _change(self, chosen: dict[str, Any], values: dict[str, Any]) -> bool:
        try:
            return bool((await self._documents.update_one(chosen, [{"$set": values}])).matched_count)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    @property
    def _documents(self) -> Any:
        return self._deployment.client[self._control][COLLECTION]
