"""Copies: what a tenant has of one entity of the control plane is compared with the original, and mended.

Whoever mends may have looked at the original a moment too early. So a copy is only replaced by what is at least as new
(`source_rev`), and after one was made or taken away the original is looked at again: of two who disagree, the one who has seen
more comes last.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from bson import ObjectId

from hooks.context import Record
from hooks.errors import Conflict
from hooks.tenant import Tenant
from services.control.sync.model import COPIED, NAMES, Switches, copied, qualifies
from services.control.sync.source import Source, revision
from services.control.sync.state import Row, State, Status
from services.control.sync.targets import Targets
from services.entities.registry import (
    CONNECTION_OVERRIDES,
    INVITATIONS,
    MEMBERS,
    REVISION,
    ROLE_PERMISSIONS,
    USER_ROLES,
)
from services.isolation import Isolation, ScopedCollection
from services.protection import SyncCapability

Tell = Callable[[Tenant, str, str, Record], Awaitable[None]]
"""Hears of what happened to a copy: the tenant, the collection, `created`, `patched` or `removed`, and the record."""
LOOKS: Final = 5
"""How often a copy is compared again when others change it at the same moment."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where a copy stands afterwards, and what was done to it: `created`, `updated`, `removed`, or None."""

    status: Status
    done: str | None = None
    rev: int = 0
    error: str | None = None


SAME: Final = Outcome(Status.SYNCED)


@dataclass(frozen=True, slots=True)
class _Case:
    """One original, as it was seen, and one tenant."""

    source: Source
    target: Tenant
    entity: str
    id: str
    original: Record | None
    dry_run: bool
    adopt: bool

    @property
    def rev(self) -> int:
        """The original's revision."""
        return 0 if self.original is None else revision(self.original)

    @property
    def wanted(self) -> Record:
        """What a copy has of it."""
        return {} if self.original is None else copied(self.entity, self.original)

    @property
    def name(self) -> Record:
        """The value that no two entities of a tenant share."""
        field = NAMES[self.entity]
        return {field: self.wanted[field]}

    @property
    def update(self) -> Record:
        """What makes a copy, or something of the tenant's own, like the original."""
        wanted = self.wanted
        return {
            "$set": {**wanted, **marks(self.id, self.rev), "updated_at": datetime.now(UTC)},
            "$unset": {field: "" for field in COPIED if field not in wanted},
            "$inc": {REVISION: 1},
        }


class Copies:
    """Mends the copies of resource servers, roles and connections."""

    def __init__(
        self, isolation: Isolation, targets: Targets, state: State, capability: SyncCapability, switches: Switches
    ) -> None:
        self.switches = switches
        self._isolation = isolation
        self._targets = targets
        self._state = state
        self._capability = capability
        self.tell: Tell = _nobody
        """Who is told, in this process."""

    def of(self, target: Tenant, entity: str) -> ScopedCollection:
        """A tenant's collection, its copies included."""
        return self._isolation.copies(target, entity, self._capability)

    async def mend(
        self, source: Source, target: Tenant, entity: str, id: str, *, dry_run: bool = False, adopt: bool = False
    ) -> Outcome:
        """Brings a tenant's copy of one entity to what it should be. `adopt` takes over what has its name (SY-5)."""
        outcome = SAME
        for _ in range(LOOKS):
            case = _Case(source, target, entity, id, await source.get(entity, id), dry_run=dry_run, adopt=adopt)
            found = await self._mend_once(case)
            if found is None:
                continue
            outcome = found
            if dry_run or outcome.done not in ("created", "removed") or outcome.status is Status.REMOVED:
                # What was deleted never comes back.
                return outcome
            again, now = await source.look_again(entity, id), await self._targets.get(target.id)
            if now is None or self.wants(now, entity, again) == (outcome.done == "created"):
                return outcome
            source.put(entity, id, again)
            target = now
        return outcome

    def wants(self, target: Tenant, entity: str, original: Record | None) -> bool:
        """Whether a tenant is to have a copy."""
        return original is not None and qualifies(self.switches, target, entity, original)

    async def _mend_once(self, case: _Case) -> Outcome | None:
        """One comparison; None when others have come between."""
        (copy,) = await self.of(case.target, case.entity).find({"source_id": case.id}, limit=1) or (None,)
        if not self.wants(case.target, case.entity, case.original):
            return await self._take_away(case, copy)
        if copy is None:
            return await self._make(case)
        rev = case.rev
        if copy["source_rev"] > rev:
            return Outcome(Status.SYNCED, rev=copy["source_rev"])
        same = copy.get("is_system") is True and all(copy.get(field) == case.wanted.get(field) for field in COPIED)
        if same and (copy["source_rev"] == rev or case.dry_run):
            return Outcome(Status.SYNCED, rev=rev)
        if case.dry_run:
            return await self._foresee(case, "updated")
        return await self._renew(case, copy, quiet=same)

    async def _take_away(self, case: _Case, copy: Record | None) -> Outcome:
        status = Status.REMOVED if case.original is None else Status.WITHDRAWN
        if copy is None:
            return Outcome(status, rev=case.rev)
        rev = copy.get("source_rev", 0) + 1 if case.original is None else case.rev
        if not case.dry_run:
            if case.original is None:
                # Before the copy goes: whoever is late finds the tombstone.
                await self._state.record([Row(case.target.id, case.entity, case.id, status, rev)])
            await self.withdraw(case.target, case.entity, copy)
        return Outcome(status, "removed", rev)

    async def _renew(self, case: _Case, copy: Record, *, quiet: bool) -> Outcome | None:
        """Replaces a copy by what is newer. `quiet` when nothing of it is different but the revision."""
        chosen = {"_id": copy["_id"], "source_rev": {"$lte": case.rev}}
        try:
            changed = await self.of(case.target, case.entity).find_one_and_update(chosen, case.update)
        except Conflict:
            blocked = await self._give_way(case)
            if blocked is None or blocked.status is not Status.CONFLICT or not case.adopt:
                return blocked
            await self.withdraw(case.target, case.entity, copy)
            return None
        if changed is None:
            return None
        if not quiet:
            await self.tell(case.target, case.entity, "patched", changed)
        return Outcome(Status.SYNCED, None if quiet else "updated", case.rev)

    async def _make(self, case: _Case) -> Outcome | None:
        target, entity = case.target, case.entity
        if case.dry_run:
            return await self._foresee(case, "created")
        if await self._state.is_gone(target.id, entity, case.id):
            return Outcome(Status.REMOVED, rev=case.rev)
        now = datetime.now(UTC)
        stamps = {REVISION: 1, "created_at": now, "updated_at": now}
        record = {"_id": ObjectId(), **case.wanted, **marks(case.id, case.rev), **stamps}
        collection = self.of(target, entity)
        try:
            await collection.insert([record])
        except Conflict:
            if case.adopt:
                taken = {**case.name, "is_system": {"$ne": True}}
                adopted = await collection.find_one_and_update(taken, case.update)
                if adopted is not None:
                    await self.tell(target, entity, "patched", adopted)
                    return Outcome(Status.SYNCED, "created", case.rev)
            return await self._give_way(case)
        await self.tell(target, entity, "created", record)
        return Outcome(Status.SYNCED, "created", case.rev)

    async def _give_way(self, case: _Case) -> Outcome | None:
        """Somebody has the name. What the tenant has made itself keeps it; a copy that bears an old name gives it up."""
        collection, entity = self.of(case.target, case.entity), case.entity
        (holder,) = await collection.find(case.name, limit=1) or (None,)
        if holder is None or holder.get("source_id") == case.id:
            return None
        if not holder.get("is_system"):
            return _conflict(case)
        other: str = holder["source_id"]
        # It cannot be renamed to what it should be: that may be the name that is given up here.
        ((field, name),) = case.name.items()
        parked = {field: f"{name} ({other})", "source_rev": 0}
        await collection.find_one_and_update({"_id": holder["_id"], field: name}, {"$set": parked})
        outcome = await self._mend_once(case)
        case.source.put(entity, other, await case.source.look_again(entity, other))
        await self.mend(case.source, case.target, entity, other)
        return outcome

    async def _foresee(self, case: _Case, done: str) -> Outcome:
        """What would be done, unless something of the tenant's own stands in the way."""
        own = {**case.name, "is_system": {"$ne": True}}
        if await self.of(case.target, case.entity).count(own):
            return _conflict(case)
        return Outcome(Status.SYNCED, done, case.rev)

    async def withdraw(self, target: Tenant, entity: str, copy: Record) -> None:
        """Takes a copy away, with what belongs to it: nobody keeps a role that is not there."""
        id = str(copy["_id"])
        gone: list[Record] = []

        async def erase() -> Record | None:
            gone.clear()
            if entity == "roles":
                triples = self.of(target, ROLE_PERMISSIONS.collection)
                gone.extend(await triples.find({"role_id": id}))
                await triples.delete_many({"role_id": id})
                await self._plain(target, USER_ROLES.collection).delete_many({"role_id": id})
                for holder in (MEMBERS, INVITATIONS):
                    await self._plain(target, holder.collection).update_many(
                        {"roles": id}, {"$pull": {"roles": id}, "$inc": {REVISION: 1}}
                    )
            elif entity == "resource_servers":
                # What copied roles allow of it; they are looked at again when it comes back.
                triples, chosen = self.of(target, ROLE_PERMISSIONS.collection), {"rs_identifier": copy["identifier"]}
                gone.extend(await triples.find({**chosen, "is_system": True}))
                await triples.delete_many({**chosen, "is_system": True})
            elif entity == "connections":
                await self._plain(target, CONNECTION_OVERRIDES.collection).delete_many({"connection_id": id})
            return await self.of(target, entity).find_one_and_delete({"_id": copy["_id"]})

        removed = await self._isolation.transaction(target, erase)
        for triple in gone:
            await self.tell(target, ROLE_PERMISSIONS.collection, "removed", triple)
        if removed is not None:
            await self.tell(target, entity, "removed", removed)

    async def release(self, target: Tenant, entity: str) -> int:
        """Leaves all copies of a type to the tenant, as its own; how many (SY-14)."""
        update: Mapping[str, Any] = {
            "$set": {"is_system": False, "updated_at": datetime.now(UTC)},
            "$unset": dict.fromkeys(("source_id", "source_rev", "synced_at"), ""),
        }
        return await self.of(target, entity).update_many({"is_system": True}, update)

    def _plain(self, target: Tenant, collection: str) -> ScopedCollection:
        return self._isolation.collection(target, collection)


def marks(id: str, rev: int) -> Record:
    """What tells a copy from what a tenant has made itself (SY-3)."""
    return {"is_system": True, "source_id": id, "source_rev": rev, "synced_at": datetime.now(UTC)}


def _conflict(case: _Case) -> Outcome:
    """The name belongs to something of the tenant's own."""
    return Outcome(
        Status.CONFLICT, rev=case.rev, error=f"The app has something of its own by this {NAMES[case.entity]}"
    )


async def _nobody(target: Tenant, collection: str, event: str, record: Record) -> None:
    """Nobody listens."""
