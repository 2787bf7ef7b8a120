"""The steps of a move and of its end, as operations that any server brings to their end (8.2.11).

A move needs to know `{target, rate}`. It records where the changes begin that it has to follow, how far it is, and at last the
evidence: what was moved, by hashes, how long writes stood still, and that nothing was left behind.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from pymongo.errors import OperationFailure

from hooks.errors import Conflict
from hooks.tenant import Placement, Tenant
from services.audit import Audit
from services.control.moves.copying import MARKS, Pair
from services.control.moves.entry import COPYING, DONE, Entries, Migration
from services.control.moves.switch import Switch
from services.control.moves.tail import Tail, open_tail
from services.control.moves.target import bring_about, estimate, inspect, missing_indexes, retire
from services.control.operations import Operations
from services.control.sagas import FINALIZE, PROMOTE, Sagas, Step, Work
from services.control.schemas import schemas_of
from services.control.snapshot import FROZEN
from services.control.tenants import Tenants
from services.database.faults import DRIVER_ERRORS, from_driver
from services.database.schema import LISTING
from services.placement.placements import Placements
from services.placement.shared import collections, empty

LAG = 1.0
"""Seconds of changes that may be still to come when the switch begins."""
FEW = 500
"""Changes, likewise."""
ROUNDS = 100


class MoveSteps:
    """Copies, follows, switches, and at last purges what was left."""

    def __init__(
        self,
        tenants: Tenants,
        operations: Operations,
        entries: Entries,
        *,
        placements: Placements,
        switch: Switch,
        audit: Audit,
    ) -> None:
        self._tenants = tenants
        self._operations = operations
        self._entries = entries
        self._placements = placements
        self._switch = switch
        self._audit = audit

    def hand_in(self, sagas: Sagas) -> None:
        """Adds them to those of others."""
        sagas.add(
            PROMOTE,
            Step("preflight", self._prepare),
            Step("mark", self._mark),
            Step("copy", self._copy),
            Step("follow", self._follow),
            Step("switch", self._move_over),
            Step("retain", self._retain),
        )
        sagas.add(FINALIZE, Step("purge-source", self._purge), Step("proof", self._prove))

    async def _prepare(self, work: Work) -> None:
        if await self._is_past(work, COPYING):
            return
        target = Placement(**work.operation.data["target"])
        async with self._placements.administer(work.tenant) as here:
            weight = await estimate(here.raw, work.tenant.id)
        async with self._placements.provider(target).administer(work.tenant, target) as there:
            await inspect(there.raw, weight)
        placed = await bring_about(self._placements, work.tenant, target)
        await work.note(target=asdict(placed), estimate=asdict(weight))

    async def _mark(self, work: Work) -> None:
        move = await self._entries.read(work.tenant.id)
        if move is None or move.operation != work.operation.id:
            # A secret that the preflight has made has raised the epoch since the step began.
            tenant = await self._tenants.get(work.tenant.id) or work.tenant
            await self._entries.begin(tenant, work.operation.id, Placement(**(await self._notes(work))["target"]))

    async def _copy(self, work: Work) -> None:
        """From where the changes are to be followed is recorded before the first record is read."""
        if await self._is_past(work, COPYING):
            return
        async with self._pair(work) as pair:
            token = (await self._notes(work)).get("token")
            if token is None:
                async with open_tail(pair, None) as tail:
                    token = tail.token
                await work.note(token=token)
            done: dict[str, Any] = dict((await self._notes(work)).get("copied", {}))
            for name in await pair.names():
                if name not in done:
                    outcome = await pair.make_equal(name)
                    done[name] = outcome.documents
                    await work.note(copied=done)

    async def _follow(self, work: Work) -> None:
        """Brings over what has changed since, until no more than a moment's changes are left."""
        if await self._is_past(work, COPYING):
            return
        async with self._pair(work) as pair, self._tail(work, pair) as tail:
            await self._near(tail)
            await work.note(token=tail.token)

    async def _move_over(self, work: Work) -> None:
        move = await self._current(work)
        if move.phase == FROZEN and move.tenant.placement == move.target:
            # Its process ended between the flip and the opening.
            move = await self._entries.open(move)
        elif move.phase == FROZEN:
            move = await self._entries.thaw(move)
        if move.phase == DONE:
            return
        async with self._pair(work) as pair, self._tail(work, pair) as tail:
            await self._near(tail)
            tail.forget()
            evidence = await self._compare(pair)
            await self._near(tail)
            if tail.is_overfull:
                raise Conflict("More changes than can be compared: try again when less is written")
            await self._check_indexes(move.tenant, pair, [*evidence])
            _, switched = await self._switch(move, pair, tail)
        await work.note(evidence=evidence, switched=asdict(switched))

    async def _retain(self, work: Work) -> None:
        """The source is kept as it is until the move is finalized or taken back."""
        move = await self._current(work)
        await retire(self._placements, move)
        self._tell(work, move.tenant, "app-moved", {"from": move.source.model, "to": move.target.model})

    async def _purge(self, work: Work) -> None:
        if await self._is_over(work):
            return
        move = await self._settled(work)
        left = move.source if move.phase == DONE else move.target
        purged = await self._placements.provider(left).deprovision(move.tenant, left)
        async with self._placements.administer(move.tenant) as here:
            # Of a move that was given up, whose process had made one and was killed before it could take it away.
            await empty(here.raw[MARKS], move.tenant.id)
        await work.note(purged=purged)

    async def _prove(self, work: Work) -> None:
        """Nothing of the tenant is left where its data is not."""
        if await self._is_over(work):
            return
        move = await self._settled(work)
        left = move.source if move.phase == DONE else move.target
        async with self._placements.provider(left).administer(move.tenant, left) as handle:
            remains = {name: await _count(handle.raw, name, move.tenant.id) for name in await collections(handle.raw)}
        if any(remains.values()):
            names = ", ".join(name for name, count in remains.items() if count)
            raise Conflict(f"Records are left in: {names}")
        # Before the catalogue forgets where it was: what comes after may be done by another process.
        await work.note(proof={"collections": len(remains), "left": 0, "at": datetime.now(UTC).isoformat()})
        await self._entries.close(move)
        self._tell(work, move.tenant, "app-move-finalized", {"purged": left.model})

    async def _near(self, tail: Tail) -> None:
        for _ in range(ROUNDS):
            caught = await tail.catch_up()
            if caught.seconds < LAG and caught.changes < FEW:
                return
        raise Conflict("The app is written faster than it can be followed")

    async def _compare(self, pair: Pair) -> dict[str, Any]:
        """A second look at every record, after the changes of the first were brought over."""
        evidence: dict[str, Any] = {}
        for name in await pair.names():
            outcome = await pair.make_equal(name)
            if outcome.documents:
                evidence[name] = asdict(outcome)
        return evidence

    async def _check_indexes(self, tenant: Tenant, pair: Pair, names: list[str]) -> None:
        """That the collections of the tenant's services, and those in which it has records, have their indexes."""
        schemas = (*self._placements.own, *schemas_of(tenant.services))
        known: dict[str, frozenset[str]] = {}
        for schema in schemas:
            indexes = {LISTING.name, *(index.name for index in schema.indexes)}
            known[schema.name] = known.get(schema.name, frozenset()) | indexes
        try:
            missing = await missing_indexes(pair.source, pair.target, sorted({*known, *names}), known)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        if missing:
            raise Conflict(f"The target lacks indexes: {', '.join(missing)}")

    @asynccontextmanager
    async def _pair(self, work: Work) -> AsyncIterator[Pair]:
        move = await self._current(work)
        here = self._placements.administer(move.tenant, move.source)
        there = self._placements.administer(move.tenant, move.target)
        try:
            async with here as source, there as target:
                yield Pair(move.tenant.id, source.raw, target.raw, int(work.operation.data.get("rate", 0)))
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    @asynccontextmanager
    async def _tail(self, work: Work, pair: Pair) -> AsyncIterator[Tail]:
        """The tail from where it was left; from now on if that is too long ago, for the switch looks at everything again."""
        token: Mapping[str, Any] | None = (await self._notes(work)).get("token")
        async with AsyncExitStack() as stack:
            try:
                tail = await stack.enter_async_context(open_tail(pair, token))
            except OperationFailure as error:
                if token is None or error.code not in _LOST:
                    raise
                tail = await stack.enter_async_context(open_tail(pair, None))
            yield tail

    async def _current(self, work: Work) -> Migration:
        move = await self._entries.read(work.tenant.id)
        if move is None or move.operation != work.operation.id:
            raise Conflict("The app is not on this move any more")
        return move

    async def _is_over(self, work: Work) -> bool:
        """Whether the move is finalized, by a process that ended before it could record that."""
        return await self._entries.is_closed(work.tenant.id, work.operation.data["move"])

    async def _settled(self, work: Work) -> Migration:
        """The move that is finalized: one that goes on is not."""
        move = await self._entries.read(work.tenant.id)
        if move is None or move.operation != work.operation.data["move"] or move.phase in (COPYING, FROZEN):
            raise Conflict("The app is not on this move any more")
        if move.tenant.placement == (move.source if move.phase == DONE else move.target):
            raise Conflict("What would be purged is where the app's data is")
        return move

    async def _notes(self, work: Work) -> Mapping[str, Any]:
        """What the steps so far have recorded: the operation that a step gets may be from before that."""
        found = await self._operations.get(work.operation.id)
        return work.operation.notes if found is None else found.notes

    async def _is_past(self, work: Work, phase: str) -> bool:
        move = await self._entries.read(work.tenant.id)
        return move is not None and move.operation == work.operation.id and move.phase != phase

    def _tell(self, work: Work, tenant: Tenant, event: str, details: dict[str, Any]) -> None:
        told = {"by": work.operation.actor, "operation": work.operation.id, **details}
        self._audit.add(tenant, event, subject=tenant.id, details=told)


_LOST = (286, 280)
"""What MongoDB answers when changes are asked for that it does not keep any more."""


async def _count(raw: Any, name: str, app_id: str) -> int:
    return int(await raw[name].count_documents({"app_id": app_id}, maxTimeMS=2500))
