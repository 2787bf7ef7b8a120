"""Mending: one tenant after some changes, or as a whole; and the account of what was done."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

import structlog

from hooks.errors import FeathersError
from hooks.tenant import Tenant, tenant_scope
from services.control.sync.copies import Copies, Outcome
from services.control.sync.model import ORDER, Switches
from services.control.sync.permissions import PermissionSets
from services.control.sync.source import Source
from services.control.sync.state import Row, Status
from services.entities.registry import RESOURCE_SERVERS, ROLE_PERMISSIONS, ROLES

log = structlog.get_logger()

PATIENCE: Final = 3.0
"""Seconds for which others wait for one tenant in a round; what it does not do by then is tried again apart from them."""
_TYPES: Final = tuple(entity.collection for entity in ORDER)
_SERVERS, _ROLES, _SETS = RESOURCE_SERVERS.collection, ROLES.collection, ROLE_PERMISSIONS.collection

Item = tuple[str, str]
"""A type and the id of an original; of permissions, that of their role."""


class Account:
    """What was done in one tenant: the rows that say where everything stands, and how often what was done."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.rows: list[Row] = []
        self.counts: dict[str, int] = {}

    def add(self, item: Item, outcome: Outcome) -> None:
        """One entity is done."""
        self.rows.append(Row(self.target, *item, outcome.status, outcome.rev, outcome.error))
        waits = outcome.status in (Status.CONFLICT, Status.DEFERRED)
        self.count(outcome.status if waits and outcome.done is None else outcome.done or "unchanged")

    def fail(self, items: Iterable[Item], reason: str, *, tried: bool = True) -> None:
        """These are to be tried again."""
        for item in items:
            self.rows.append(Row(self.target, *item, Status.PENDING, error=reason, tried=tried))
            self.count(Status.PENDING)

    def count(self, what: str, often: int = 1) -> None:
        """Something was done so often."""
        self.counts[str(what)] = self.counts.get(str(what), 0) + often

    @property
    def is_complete(self) -> bool:
        """Whether nothing has to be tried again. What stands in conflict waits for a decision, not for another try."""
        return all(row.status not in (Status.PENDING, Status.DEFERRED, Status.FAILED) for row in self.rows)


class Mending:
    """Mends tenants."""

    def __init__(self, copies: Copies, sets: PermissionSets) -> None:
        self.copies = copies
        self._sets = sets

    @property
    def switches(self) -> Switches:
        """What is synced at all."""
        return self.copies.switches

    async def some(
        self, source: Source, target: Tenant, items: Iterable[Item], *, patience: float = PATIENCE
    ) -> Account:
        """Mends what some changes are about, in the order in which one rests on the other, and what rests on them.

        It never raises: what fails is in the account.
        """
        account = Account(target.id)
        left = [item for item in dict.fromkeys(items) if self.switches.has(item[0])]
        with tenant_scope(target):
            try:
                async with asyncio.timeout(patience):
                    while left:
                        item = min(left, key=lambda one: _TYPES.index(one[0]))
                        outcome = await self.one(source, target, item)
                        left.remove(item)
                        account.add(item, outcome)
                        left += [more for more in await self.after(source, item, outcome) if more not in left]
            except FeathersError as error:
                account.fail(left, error.message)
            except TimeoutError:
                account.fail(left, "It took too long")
            except Exception as error:
                log.exception("sync: a tenant could not be mended", tenant=target.id)
                account.fail(left, type(error).__name__)
        return account

    async def one(
        self, source: Source, target: Tenant, item: Item, *, dry_run: bool = False, adopt: bool = False
    ) -> Outcome:
        """Mends one entity.

        Raises:
            FeathersError: the tenant's data, or the control plane's, cannot be had.
        """
        entity, id = item
        if entity == _SETS:
            return await self._sets.mend(source, target, id, dry_run=dry_run)
        return await self.copies.mend(source, target, entity, id, dry_run=dry_run, adopt=adopt)

    async def whole(
        self,
        source: Source,
        target: Tenant,
        types: Sequence[str] = _TYPES,
        *,
        dry_run: bool = False,
    ) -> Account:
        """Compares all that a tenant has with all that it should have (SY-12).

        Raises:
            FeathersError: as `one`.
        """
        account = Account(target.id)
        with tenant_scope(target):
            for entity in (entity for entity in _TYPES if entity in types):
                if self.switches.has(entity):
                    for id in await self._ids(source, target, entity):
                        account.add((entity, id), await self.one(source, target, (entity, id), dry_run=dry_run))
                elif not dry_run:
                    await self._switch_off(target, entity, account)
        return account

    async def _ids(self, source: Source, target: Tenant, entity: str) -> list[str]:
        """The originals that a tenant is to have, and those of which it has copies."""
        kind = _ROLES if entity == _SETS else entity
        originals = [str(record["_id"]) for record in await source.all(kind) if self.copies.wants(target, kind, record)]
        if entity == _SETS:
            return originals
        found = await self.copies.of(target, entity).find({"is_system": True}, projection={"source_id": 1})
        return [*dict.fromkeys((*originals, *(copy["source_id"] for copy in found)))]

    async def _switch_off(self, target: Tenant, entity: str, account: Account) -> None:
        """What becomes of the copies of a type that is not synced any more (SY-14)."""
        choice, collection = self.switches.on_disable, self.copies.of(target, entity)
        kept = await collection.find({"is_system": True})
        if choice == "keep_protected":
            if kept:
                account.count("kept", len(kept))
            return
        if entity == _SETS:
            if choice == "remove":
                await collection.delete_many({"is_system": True})
        elif choice == "remove":
            for copy in kept:
                await self.copies.withdraw(target, entity, copy)
        if choice == "release":
            await self.copies.release(target, entity)
        holders = kept if entity != _SETS else await self.copies.of(target, _ROLES).find({"is_system": True})
        account.rows += [Row(target.id, entity, holder["source_id"], Status.WITHDRAWN) for holder in holders]
        if kept:
            account.count("removed" if choice == "remove" else "released", len(kept))

    async def after(self, source: Source, item: Item, outcome: Outcome) -> list[Item]:
        """What rests on an entity that has come."""
        entity, id = item
        if outcome.done != "created":
            return []
        if entity == _ROLES:
            return [item for item in [(_SETS, id)] if self.switches.has(_SETS)]
        if entity == _SERVERS and self.switches.has(_SETS):
            original = await source.get(entity, id)
            roles = [] if original is None else await source.roles_with(original["identifier"])
            return [(_SETS, role) for role in roles]
        return []
