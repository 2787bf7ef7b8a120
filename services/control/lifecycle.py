"""The life of tenants: every way in which one is made, changed in bulk, taken out of service or deleted goes through here.

The service `tenants`, the command line and declarative files call the same methods. What is to be done is kept as an operation
in the same transaction as the tenant's new state; a `Runner` brings it to its end, in this process or another one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from hooks.errors import BadRequest, Conflict, FeathersError, Forbidden, NotFound
from hooks.tenant import Tenant
from services import declaration
from services.audit import Audit
from services.control.creators import Creators
from services.control.operations import FAILED, WAITING, Operation, Operations
from services.control.runner import Runner
from services.control.sagas import DELETE, FINALIZE, PROMOTE, PROVISION, RESUME, SUSPEND, Sagas
from services.control.steps import run_after
from services.control.tenants import Change, Tenants
from services.declaration import Declaration, DeclarationError, TenantDeclaration
from services.declaration.placement import PlacementDeclaration
from services.tenant_hooks import TenantCall, TenantHooks

log = structlog.get_logger()

OPERATOR = "operator"
"""The actor of the command line and of declarative files."""
PATIENCE = 10.0
"""Seconds for which who makes an app waits until it is ready; it goes on without him."""
LOOK = 0.05
"""Seconds between two looks at an operation that another process works on."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks. `user` is the id of a user of the control plane; None is an operator at the server."""

    user: str | None = None
    provider: str | None = None

    @property
    def name(self) -> str:
        """As in operations and logs."""
        return self.user or OPERATOR


AT_THE_SERVER = Actor()


class Lifecycle:
    """Makes, suspends, resumes and deletes tenants."""

    def __init__(
        self,
        tenants: Tenants,
        operations: Operations,
        runner: Runner,
        sagas: Sagas,
        audit: Audit,
        *,
        creators: Creators,
        control_plane: str,
        placement: PlacementDeclaration | None = None,
    ) -> None:
        """`control_plane` is its tenant's id; `placement` is that of new tenants that name none."""
        self._tenants = tenants
        self._operations = operations
        self._runner = runner
        self._sagas = sagas
        self._audit = audit
        self._creators = creators
        self._control_plane = control_plane
        self._placement = placement
        self.patience = PATIENCE
        """Seconds for which an operation is waited for where nobody says how long."""
        self.hooks: Callable[[], TenantHooks] = TenantHooks
        """Where plug-ins have registered theirs."""
        self._listeners: list[Callable[[Tenant], Awaitable[None]]] = []
        runner.on_attempt(self._note_attempt)
        runner.on_failure(self._note_failure)

    def on_update(self, listener: Callable[[Tenant], Awaitable[None]]) -> None:
        """Calls `listener` with each tenant that was changed by way of this process."""
        self._listeners.append(listener)

    async def create(
        self,
        declared: TenantDeclaration,
        actor: Actor = AT_THE_SERVER,
        *,
        idempotency_key: str | None = None,
        most: int | None = None,
    ) -> Operation:
        """Makes a tenant, and waits until it is ready, for some seconds at most; the operation as it is then.

        Who asks again with the same key gets the operation of the first time (CP-22). `most` is how many the actor may have.

        Raises:
            BadRequest: an id that no new tenant may have. Conflict: it exists. QuotaExceeded: the actor has too many.
        """
        if idempotency_key is not None:
            earlier = await self._operations.by_key(actor.name, idempotency_key)
            if earlier is not None:
                return await self.settle(earlier.id)
        if await self._tenants.get(declared.id) is not None:
            raise Conflict(f"The tenant '{declared.id}' exists already")
        try:
            await self.apply(
                Declaration(tenants=(declared,)), actor, idempotency_key=idempotency_key, only_new=True, most=most
            )
        except Conflict:
            # Somebody was faster: perhaps the same caller.
            earlier = None if idempotency_key is None else await self._operations.by_key(actor.name, idempotency_key)
            if earlier is None or earlier.app_id != declared.id:
                raise
            return await self.settle(earlier.id)
        made = await self._operations.latest(declared.id, PROVISION)
        assert made is not None
        return made

    async def apply(
        self,
        wanted: Declaration,
        actor: Actor = AT_THE_SERVER,
        *,
        idempotency_key: str | None = None,
        only_new: bool = False,
        most: int | None = None,
        patience: float | None = None,
    ) -> list[Change]:
        """Makes and updates the declared tenants, all of them or none, and waits until the new ones are ready.

        It waits for all of them at once, as `settle` does; one that has to be tried again is not waited for.

        Raises:
            BadRequest: an id that no new tenant may have, or a place that there is not. Conflict: one is being deleted, or
            exists though it must not.
            QuotaExceeded: the actor would have more than `most`.
            DeclarationError: what a hook has made of a declaration is none.
        """
        existing = {one.id: await self._tenants.get(one.id) for one in wanted.tenants}
        for one in wanted.tenants:
            if existing[one.id] is None:
                await self._tenants.check_new(one.id)
            elif only_new:
                raise Conflict(f"The tenant '{one.id}' exists already")
        refined = Declaration(
            tenants=tuple([await self._refine(one, actor, existing[one.id]) for one in wanted.tenants])
        )
        for one in refined.tenants:
            if existing[one.id] is None and one.placement is not None:
                self._tenants.placements.check(one.placement.model, one.placement.cluster)

        async def begin(one: TenantDeclaration) -> None:
            if most is not None and actor.user is not None:
                await self._creators.charge(actor.user, most)
            await self._operations.begin(
                one.id,
                PROVISION,
                self._sagas.names(PROVISION),
                actor=actor.name,
                provider=actor.provider,
                data={"creator": actor.user},
                idempotency_key=idempotency_key,
            )

        changes = await self._tenants.write(refined, begin, actor.user, only_new=only_new)
        await asyncio.gather(*(self._follow(change, actor, patience) for change in changes))
        return changes

    async def delete(self, id: str, actor: Actor = AT_THE_SERVER) -> Operation:
        """Begins to delete a tenant; the operation. While one is being deleted, it answers the same operation (CP-16).

        Raises:
            Forbidden: the control plane. NotFound: there is no such tenant. Conflict: something else is being done to it.
        """
        self.check_deletable(id)
        tenant = await self._known(id)
        if tenant.status != "deleting":
            await self.hooks().before_delete(TenantCall(id, actor.name, actor.provider))
            operation = await self._move(id, DELETE, ("ready", "suspended", "failed", "provisioning"), actor)
            if operation is not None:
                await self._note("app-deletion-began", id, actor, operation)
                return operation
        running = await self._operations.latest(id, DELETE)
        if running is None:
            raise NotFound(f"There is no app '{id}'")
        return await self._again(running)

    async def suspend(self, id: str, actor: Actor = AT_THE_SERVER) -> Operation:
        """Takes a tenant out of service: nothing is served, nothing is lost.

        Raises:
            Forbidden: the control plane. NotFound: there is no such tenant. Conflict: it is not in service.
        """
        if id == self._control_plane:
            raise Forbidden("Cannot suspend the control plane")
        return await self._switch(id, SUSPEND, "ready", actor, "app-suspended")

    async def resume(self, id: str, actor: Actor = AT_THE_SERVER) -> Operation:
        """Takes a suspended tenant into service again.

        Raises:
            NotFound: there is no such tenant. Conflict: it is not suspended.
        """
        return await self._switch(id, RESUME, "suspended", actor, "app-resumed")

    async def begin(self, id: str, kind: str, actor: Actor = AT_THE_SERVER) -> Operation:
        """Begins an operation on a tenant in service, of a kind that changes no state by its beginning.

        Raises:
            BadRequest: there is no such kind. NotFound: there is no such tenant. Conflict: it is not in service, or busy.
        """
        if kind not in self._sagas.kinds - {PROVISION, DELETE, PROMOTE, FINALIZE}:
            raise BadRequest(f"There is no operation '{kind[:64]}'")
        return await self._switch(id, kind, "ready", actor, f"app-{kind}")

    async def retry(self, id: str, kind: str) -> Operation:
        """Takes up at once what has failed, or waits for its next attempt.

        Raises:
            NotFound: nothing of this kind was ever begun. Conflict: it is being done, or was done.
        """
        found = await self._operations.latest(id, kind)
        if found is None:
            raise NotFound(f"There is no operation '{kind}' of the app '{id}'")
        if found.state not in (FAILED, WAITING):
            raise Conflict(f"The operation is {found.state}")
        return await self._again(found)

    async def made(self, id: str, patience: float | None = None) -> None:
        """Waits until a tenant is made, as `settle`."""
        operation = await self._operations.latest(id, PROVISION)
        if operation is not None and operation.is_active:
            await self.settle(operation.id, patience)

    async def settle(self, operation: str, patience: float | None = None) -> Operation:
        """Waits until an operation is over or has to wait for its next attempt, wherever it runs; as it is then.

        `patience` is for how many seconds at most; without it, the lifecycle's own.

        Raises:
            NotFound: there is no such operation.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + (self.patience if patience is None else patience)
        while True:
            task = self._runner.work(operation)
            await asyncio.wait([task], timeout=max(0.0, deadline - clock()))
            found = await self._operations.get(operation)
            if found is None:
                raise NotFound(f"There is no operation '{operation}'")
            if not found.is_active or found.state == WAITING or clock() >= deadline:
                return found
            await asyncio.sleep(LOOK)

    def check_deletable(self, id: str) -> None:
        """Before anything else is asked (CP-2).

        Raises:
            Forbidden: it is the control plane.
        """
        if id == self._control_plane:
            raise Forbidden("Cannot delete the control plane")

    async def _switch(self, id: str, kind: str, before: str, actor: Actor, event: str) -> Operation:
        tenant = await self._known(id)
        if tenant.status != before:
            raise Conflict(f"The app '{id}' is {tenant.status}")
        operation = await self._operations.get(await self._begin(id, kind, actor))
        assert operation is not None
        await self._note(event, id, actor, operation, tenant)
        self._runner.work(operation.id)
        return operation

    async def _move(self, id: str, kind: str, before: Sequence[str], actor: Actor) -> Operation | None:
        """The state of the kind's beginning and its operation, both or neither; None if somebody was faster."""

        async def move() -> str | None:
            await self._operations.cancel(id)
            moved = await self._tenants.move(id, before, "deleting")
            return None if moved is None else await self._begin(id, kind, actor)

        begun = await self._tenants.transaction(move)
        if begun is None:
            return None
        self._runner.work(begun)
        return await self._operations.get(begun)

    async def _begin(self, id: str, kind: str, actor: Actor) -> str:
        try:
            return await self._operations.begin(
                id, kind, self._sagas.names(kind), actor=actor.name, provider=actor.provider
            )
        except Conflict as error:
            raise Conflict(f"Something else is being done to the app '{id}': try again") from error

    async def _again(self, operation: Operation) -> Operation:
        if operation.state == FAILED:
            operation = await self._operations.reopen(operation.id) or operation
        elif operation.state == WAITING:
            await self._operations.hasten(operation.id)
        self._runner.work(operation.id)
        return await self._operations.get(operation.id) or operation

    async def _follow(self, change: Change, actor: Actor, patience: float | None) -> None:
        """Waits until a new tenant is ready, and calls the hooks that follow an update; those of a creation are a step."""
        if change.outcome == "updated":
            await self.tell_updated(await self._known(change.tenant), actor)
        operation = await self._operations.latest(change.tenant, PROVISION)
        if operation is None:
            return
        if change.outcome == "created":
            await self._note("app-created", change.tenant, actor, operation)
        if operation.is_active and operation.state != WAITING:
            await self.settle(operation.id, patience)

    async def tell_updated(self, tenant: Tenant, actor: Actor) -> None:
        """Calls what follows a change of a tenant: listeners, and hooks, none of which can undo it."""
        for listener in self._listeners:
            await listener(tenant)
        call = TenantCall(tenant.id, actor.name, actor.provider)
        for hook in self.hooks().after("after_update"):
            await run_after(hook, call, tenant)

    async def _refine(self, one: TenantDeclaration, actor: Actor, existing: Tenant | None) -> TenantDeclaration:
        hooks, call = self.hooks(), TenantCall(one.id, actor.name, actor.provider)
        given = one.model_dump(mode="json", by_alias=True, exclude_unset=True)
        wanted = await (hooks.before_create if existing is None else hooks.before_update)(call, given)
        if wanted is given:
            return self._placed(one)
        try:
            (refined,) = declaration.check({"tenants": [dict(wanted)]}).tenants
        except DeclarationError as error:
            raise BadRequest("What a hook has made of the app is none", errors=[*error.mistakes]) from error
        if refined.id != one.id:
            raise BadRequest("A hook cannot give an app another id")
        return self._placed(refined)

    def _placed(self, one: TenantDeclaration) -> TenantDeclaration:
        return one if one.placement is not None else one.model_copy(update={"placement": self._placement})

    async def _known(self, id: str) -> Tenant:
        tenant = await self._tenants.get(id)
        if tenant is None:
            raise NotFound(f"There is no app '{id}'")
        return tenant

    async def _note_attempt(self, operation: Operation) -> None:
        """What has failed and is tried again is being made again (CP-20)."""
        if operation.kind == PROVISION and operation.attempts:
            await self._tenants.move(operation.app_id, ("failed",), "provisioning")

    async def _note_failure(self, operation: Operation) -> None:
        if operation.kind == PROVISION:
            try:
                await self._tenants.move(operation.app_id, ("provisioning",), "failed")
            except FeathersError as error:
                log.warning("a failure was not noted", tenant=operation.app_id, error=error.name)

    async def _note(self, event: str, id: str, actor: Actor, operation: Operation, child: Tenant | None = None) -> None:
        """Into the control plane's own log, which outlives the app; and into the child's, if it is given (OB-5)."""
        details = {"by": actor.name, "operation": operation.id}
        for tenant in (await self._tenants.get(self._control_plane), child):
            if tenant is not None:
                self._audit.add(tenant, event, actor_id=actor.user, subject=id, details=details)
