"""Runs: all tenants, or one, compared with the control plane as a whole; by command, every night, and after a restore (SY-12).

A run over all tenants keeps where it is: whoever takes it up again goes on from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextvars import Context
from datetime import UTC, datetime
from typing import Any, Final

from hooks.context import Record
from hooks.errors import FeathersError
from hooks.tenant import Tenant
from services.control.sync.mending import Account, Mending
from services.control.sync.model import ALL, TYPES
from services.control.sync.source import Source
from services.control.sync.state import State
from services.control.sync.targets import Targets
from services.control.tenants import control_database
from services.database.deployment import Deployment
from services.database.faults import DRIVER_ERRORS, from_driver
from services.isolation import Isolation
from services.store import Document

COLLECTION: Final = "sync_runs"
AT_ONCE: Final = 16
_SHOWN: Final = ("entity", "dry_run", "state", "counts", "failed", "started_at", "ended_at")


class Runs:
    """Compares tenants as a whole."""

    def __init__(
        self,
        deployment: Deployment,
        isolation: Isolation,
        mending: Mending,
        state: State,
        targets: Targets,
        *,
        database: str,
    ) -> None:
        self._deployment = deployment
        self._control = control_database(database)
        self._isolation = isolation
        self._mending = mending
        self._state = state
        self._targets = targets

    async def one(self, target: Tenant, entity: str = ALL, *, dry_run: bool = False) -> Account:
        """One tenant, now.

        Raises:
            FeathersError: its data cannot be had.
        """
        account = await self._mending.whole(await self._source(), target, types_of(entity), dry_run=dry_run)
        if not dry_run:
            await self._state.record(account.rows)
        return account

    async def backfill(self, target: Tenant, entity: str) -> Account:
        """One type in a new tenant, of which nothing has been copied yet.

        Raises:
            FeathersError: its data cannot be had.
        """
        account = await self._mending.whole(await self._source(), target, (entity,))
        await self._state.record(account.rows)
        return account

    async def adopt(self, target: Tenant, entity: str, source_id: str) -> Account:
        """Has one copy take the place of what the tenant has by its name, whose id stays (SY-5).

        Raises:
            FeathersError: the tenant's data cannot be had.
        """
        account, source, item = Account(target.id), await self._source(), (entity, source_id)
        outcome = await self._mending.one(source, target, item, adopt=True)
        account.add(item, outcome)
        for resting in await self._mending.after(source, item, outcome):
            account.add(resting, await self._mending.one(source, target, resting))
        await self._state.record(account.rows)
        return account

    async def begin(self, id: str, entity: str = ALL, *, dry_run: bool = False) -> Record:
        """Keeps a run over all tenants, which somebody has to do; one that there is stays as it is."""
        fresh = {
            "entity": entity or "*",
            "dry_run": dry_run,
            "state": "running",
            "cursor": "",
            "counts": {},
            "failed": 0,
            "started_at": datetime.now(UTC),
        }
        try:
            await self._runs.update_one({"_id": id}, {"$setOnInsert": fresh}, upsert=True)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        return await self.get(id) or fresh

    async def get(self, id: str) -> Record | None:
        """What may be told of a run."""
        try:
            found: Document | None = await self._runs.find_one({"_id": id}, max_time_ms=2000)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        return None if found is None else {"_id": id, **{name: found[name] for name in _SHOWN if name in found}}

    async def work(self, id: str) -> Record:
        """Does a run from where it is to its end. A tenant that fails is counted, and holds up nobody.

        Raises:
            FeathersError: the control plane cannot be asked: the run goes on when it is taken up again.
        """
        run: Any = await self._runs.find_one({"_id": id})
        batch: list[Tenant] = []
        async for target in self._targets.all(run["cursor"]):
            batch.append(target)
            if len(batch) == AT_ONCE:
                await self._do(run, batch)
                batch = []
        if batch:
            await self._do(run, batch)
        await self._note(id, {"$set": {"state": "done", "ended_at": datetime.now(UTC)}})
        return await self.get(id) or {}

    async def _do(self, run: Document, batch: Sequence[Tenant]) -> None:
        # Looked at anew for each batch: a run takes long.
        source = await self._source()
        types = types_of("" if run["entity"] == "*" else run["entity"])

        async def visit(target: Tenant) -> Account:
            return await self._mending.whole(source, target, types, dry_run=run["dry_run"])

        tasks = [asyncio.create_task(visit(target), context=Context()) for target in batch]
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        counts: dict[str, int] = {}
        failed = 0
        rows = []
        for outcome in outcomes:
            if isinstance(outcome, Account):
                rows += outcome.rows
                for what, often in outcome.counts.items():
                    counts[f"counts.{what}"] = counts.get(f"counts.{what}", 0) + often
            elif isinstance(outcome, FeathersError):
                failed += 1
            else:
                raise outcome
        if not run["dry_run"]:
            await self._state.record(rows)
        await self._note(run["_id"], {"$set": {"cursor": batch[-1].id}, "$inc": {**counts, "failed": failed}})

    async def _note(self, id: str, update: Mapping[str, Any]) -> None:
        try:
            await self._runs.update_one({"_id": id}, update)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    async def _source(self) -> Source:
        return Source(self._isolation, await self._targets.control_plane())

    @property
    def _runs(self) -> Any:
        return self._deployment.client[self._control][COLLECTION]


def types_of(entity: str) -> tuple[str, ...]:
    """The types that a run is about. With roles go their permissions."""
    if entity == ALL:
        return tuple(TYPES)
    return (entity, "role_permissions") if entity == "roles" else (entity,)
