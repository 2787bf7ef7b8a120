"""Moves as operators ask for them: begun, gone on with, taken back, and finalized (8.2.11, MG-4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from hooks.errors import BadRequest, Conflict, NotFound
from hooks.tenant import SERVING, Placement, Tenant
from services.control.moves.entry import COPYING, DONE, Entries, Migration
from services.control.moves.target import Estimate, choose, estimate, inspect, retire
from services.control.operations import CANCELLED, FAILED, RUNNING, WAITING, Operation, Operations
from services.control.places import OWN_URI
from services.control.runner import Runner
from services.control.sagas import FINALIZE, PROMOTE, Sagas
from services.control.snapshot import FROZEN
from services.control.tenants import Tenants
from services.placement.placements import SHARED, Placements

RETENTION = timedelta(hours=24)
"""For how long what a move has left stays, unless an operator says that it need not."""
OPERATOR = "operator"
HEAVY = 1_000_000
"""Records from which an app in the shared database is proposed to be moved, before shared migrations get slow by it."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where an app's data is to be."""

    model: str
    cluster: str = "default"
    credential: str = OWN_URI
    """For `cluster`: the name of the secret that holds the connection string."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """How heavy an app is, and whether it had better be moved out of the shared database (MG-2)."""

    app_id: str
    model: str
    estimate: Estimate
    is_proposed: bool


class Moves:
    """The moves of a control plane. Any server brings one to its end; `runner` does so in this process."""

    def __init__(
        self,
        tenants: Tenants,
        operations: Operations,
        runner: Runner,
        sagas: Sagas,
        *,
        entries: Entries,
        placements: Placements,
        database: str,
    ) -> None:
        """`database` is the name of the shared one."""
        self._tenants = tenants
        self._operations = operations
        self._runner = runner
        self._sagas = sagas
        self._entries = entries
        self._placements = placements
        self._database = database

    async def plan(self, id: str, to: Destination) -> tuple[Placement, Estimate]:
        """What a move would do; nothing is changed.

        Raises:
            BadRequest, Conflict: it cannot be done; the sentence says why. Unavailable: the target cannot be reached.
        """
        tenant = await self._known(id)
        await self._check_free(id)
        target = self._choose(tenant, to)
        async with self._placements.administer(tenant) as here:
            weight = await estimate(here.raw, tenant.id)
        async with self._placements.provider(target).administer(tenant, target) as there:
            await inspect(there.raw, weight)
        return target, weight

    async def weigh(self, *, above: int = HEAVY) -> list[Weighed]:
        """Every app's weight, one after the other, the heaviest first; proposed are those of more records than `above`."""
        found = []
        async for tenant in self._tenants.all():
            if tenant.status in (*SERVING, "suspended"):
                async with self._placements.administer(tenant) as handle:
                    weight = await estimate(handle.raw, tenant.id)
                is_proposed = (
                    tenant.placement.model == SHARED and weight.documents > above and not tenant.is_control_plane
                )
                found.append(Weighed(tenant.id, tenant.placement.model, weight, is_proposed))
        return sorted(found, key=lambda weighed: weighed.estimate.documents, reverse=True)

    async def promote(self, id: str, to: Destination, *, rate: int = 0, actor: str = OPERATOR) -> Operation:
        """Begins to move an app's data; `rate` is how many records are copied in a second, at most.

        Raises:
            BadRequest, Conflict: as `plan`.
        """
        tenant = await self._known(id)
        if tenant.status != "ready":
            raise Conflict(f"The app '{id}' is {tenant.status}")
        await self._check_free(id)
        return await self._begin(id, PROMOTE, {"target": asdict(self._choose(tenant, to)), "rate": rate}, actor)

    async def resume(self, id: str) -> Operation:
        """Goes on with the app's last move, or its end.

        Raises:
            Conflict: there is nothing to go on with.
        """
        operation = await self._operations.latest(id)
        if operation is None or operation.kind not in (PROMOTE, FINALIZE) or operation.state == CANCELLED:
            raise Conflict(f"There is no move of '{id}' to go on with")
        if operation.state == FAILED:
            operation = await self._operations.reopen(operation.id) or operation
        elif operation.state == WAITING:
            await self._operations.hasten(operation.id)
        self._runner.work(operation.id)
        return operation

    async def rollback(self, id: str, *, actor: str = OPERATOR) -> Operation | None:
        """Takes a move back: one that goes on is given up, and of one that is done the data comes back, the new one too.

        A return whose preflight was interrupted is given up as well: then the move before it is what is done.

        Raises:
            Conflict: there is none, it is finalized, or another process works on it.
        """
        move, ended = await self._given_up(id)
        if ended is not None and ended != move.operation:
            # Its preflight has made the old place ready to be served from; again it is not.
            await retire(self._placements, move)
            return None
        if move.phase == FROZEN and move.tenant.placement == move.target:
            # Its process ended between the flip and the opening: what is new would be missing at the source.
            move = await self._entries.open(move)
        if move.phase == DONE:
            return await self._begin(id, PROMOTE, {"target": asdict(move.source), "rate": 0}, actor)
        if move.phase in (COPYING, FROZEN):
            await self._entries.abandon(move)
        return None

    async def finalize(self, id: str, *, now: bool = False, actor: str = OPERATOR) -> Operation:
        """Deletes what a move has left behind, and proves that nothing is there any more.

        Raises:
            Conflict: the move goes on, or is not so long ago and `now` is not said.
        """
        move = await self._unfinished(id)
        if move.phase in (COPYING, FROZEN):
            raise Conflict(f"The data of '{id}' is still being moved")
        operation = await self._operations.get(move.operation)
        ended = None if operation is None else operation.ended_at
        if not now and ended is not None and datetime.now(UTC) - ended < RETENTION:
            raise Conflict(f"What the move has left is kept until {ended + RETENTION:%Y-%m-%d %H:%M} UTC: or say --now")
        return await self._begin(id, FINALIZE, {"move": move.operation}, actor)

    async def _begin(self, id: str, kind: str, data: Mapping[str, Any], actor: str) -> Operation:
        try:
            begun = await self._operations.begin(id, kind, self._sagas.names(kind), actor=actor, data=data)
        except Conflict as error:
            raise Conflict(f"Something else is being done to the app '{id}': --resume goes on with a move") from error
        self._runner.work(begun)
        operation = await self._operations.get(begun)
        assert operation is not None
        return operation

    async def _given_up(self, id: str) -> tuple[Migration, str | None]:
        """The app's last move, on which nobody works any more, and the operation that was ended for that.

        Raises:
            Conflict: there is none, or another process works on it.
        """
        move, tenant = await self._entries.read(id), await self._known(id)
        operation, ended = await self._operations.latest(id, PROMOTE), None
        if move is None:
            if operation is not None and tenant.status != "ready":
                raise Conflict(f"The app '{id}' is {tenant.status}")
        elif operation is None or not operation.is_active:
            operation = await self._operations.get(move.operation)
        if operation is not None and operation.state in (RUNNING, WAITING, FAILED):
            if operation.state == FAILED:
                await self._operations.reopen(operation.id)
            await self._operations.hasten(operation.id)
            held = await self._operations.claim(operation.id, self._runner.node)
            if held is None:
                raise Conflict("Another process works on the move: stop it, or wait for some seconds")
            await self._register(held)
            await self._operations.end(held, CANCELLED, {})
            ended = held.id
        # Whoever had worked on it may have come further since.
        return await self._unfinished(id), ended

    async def _register(self, operation: Operation) -> None:
        """Has the catalogue know of a move that has ended in its preflight: what that has made is deleted by `finalize`."""
        tenant = await self._known(operation.app_id)
        if await self._entries.read(tenant.id) is None:
            target = operation.notes.get("target", operation.data["target"])
            await self._entries.begin(tenant, operation.id, Placement(**target))

    async def _check_free(self, id: str) -> None:
        move = await self._entries.read(id)
        if move is not None:
            raise Conflict(f"The last move of '{id}' is not over: --resume, --rollback or --finalize it first")

    async def _unfinished(self, id: str) -> Migration:
        await self._known(id)
        move = await self._entries.read(id)
        if move is None:
            raise Conflict(f"There is no move of '{id}', or it is finalized")
        return move

    def _choose(self, tenant: Tenant, to: Destination) -> Placement:
        if to.model not in self._placements.models:
            raise BadRequest(f"'{to.model}' is none of the isolation models {', '.join(self._placements.models)}")
        return choose(tenant, to.model, cluster=to.cluster, credential=to.credential, database=self._database)

    async def _known(self, id: str) -> Tenant:
        tenant = await self._tenants.get(id)
        if tenant is None:
            raise NotFound(f"There is no tenant '{id}'")
        return tenant
