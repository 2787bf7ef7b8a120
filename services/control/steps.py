"""The steps that the control plane knows by itself; other parts of the house hand in theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from hooks.errors import Conflict, GeneralError
from hooks.tenant import Tenant
from services.audit import Audit
from services.authentication.keys import Keys
from services.control.purge import KEYS, Purge
from services.control.sagas import DELETE, PROVISION, RESUME, ROTATE_KEYS, SUSPEND, Sagas, Step, Work
from services.control.tenants import Tenants
from services.tenant_hooks import After, TenantCall, TenantHooks

log = structlog.get_logger()

HOOK_ATTEMPTS = 3
HOOK_PAUSE = 0.2
OVERLAP = 86_400.0
"""Seconds for which tokens are accepted that the keys before have signed."""

Quiet = Callable[[Work], Awaitable[None]]
"""Returns when no process serves the tenant any more: its calls have ended, and its sockets are closed."""


class OwnSteps:
    """Ensures what belongs to a tenant, and that it goes."""

    def __init__(
        self,
        tenants: Tenants,
        keys: Keys,
        *,
        purge: Purge,
        audit: Audit,
        hooks: Callable[[], TenantHooks],
        quiet: Quiet,
        control_plane: str,
    ) -> None:
        self._tenants = tenants
        self._keys = keys
        self._purge = purge
        self._audit = audit
        self._hooks = hooks
        self._quiet = quiet
        self._control_plane = control_plane

    def hand_in(self, sagas: Sagas) -> None:
        """Adds them to those of others."""
        sagas.add(
            PROVISION,
            Step("database", self._prepare_database),
            Step("indexes", self._prepare_indexes),
            Step("signing-key", self._make_key),
            Step("verify", self._verify),
            Step("ready", self._open),
            Step("after-hooks", self._follow_creation),
        )
        sagas.add(
            DELETE,
            Step("sockets", self._quiet),
            Step("jobs", self._stop_jobs),
            Step("tokens", self._end_logins),
            Step("purge", self._purge_data),
            Step("keys", self._shred),
            Step("domains", self._forget),
            Step("verify", self._verify_gone),
            Step("tombstone", self._bury),
            Step("after-hooks", self._follow_deletion),
        )
        sagas.add(SUSPEND, Step("suspend", self._suspend), Step("sockets", self._quiet))
        sagas.add(RESUME, Step("resume", self._resume))
        sagas.add(ROTATE_KEYS, Step("rotate", self._rotate))

    async def _prepare_database(self, work: Work) -> None:
        await self._tenants.prepare_database(work.tenant)

    async def _prepare_indexes(self, work: Work) -> None:
        await self._tenants.prepare_collections(work.tenant)

    async def _make_key(self, work: Work) -> None:
        await self._keys.ensure(work.tenant.id)

    async def _verify(self, work: Work) -> None:
        if not await self._keys.records(work.tenant.id):
            raise GeneralError("The app has no signing key")

    async def _open(self, work: Work) -> None:
        opened = await self._tenants.move(work.tenant.id, ("provisioning", "failed"), "ready")
        if opened is None and work.tenant.status != "ready":
            raise Conflict(f"The app is {work.tenant.status}")

    async def _suspend(self, work: Work) -> None:
        if await self._tenants.move(work.tenant.id, ("ready",), "suspended") is None:
            _expect(work.tenant, "suspended")

    async def _resume(self, work: Work) -> None:
        if await self._tenants.move(work.tenant.id, ("suspended",), "ready") is None:
            _expect(work.tenant, "ready")

    async def _stop_jobs(self, work: Work) -> None:
        # One that runs ends by itself: its worker finds that the app is being deleted.
        await self._purge.control(work.tenant, "jobs")

    async def _rotate(self, work: Work) -> None:
        newest = max((record.created_at for record in await self._keys.records(work.tenant.id)), default=None)
        if newest is None or newest < work.operation.created_at:
            await self._keys.rotate(work.tenant.id, OVERLAP)
        await self._tenants.touch(work.tenant.id)

    async def _end_logins(self, work: Work) -> None:
        await self._purge.logins(work.tenant)

    async def _purge_data(self, work: Work) -> None:
        gone = dict(work.operation.notes.get("purged", {}))

        async def tell(collection: str, count: int) -> None:
            gone[collection] = gone.get(collection, 0) + count
            await work.note(purged=gone)

        await self._purge.data(work.tenant, tell)

    async def _shred(self, work: Work) -> None:
        await self._purge.control(work.tenant, *KEYS)
        self._keys.forget(work.tenant.id)

    async def _forget(self, work: Work) -> None:
        await self._purge.control(work.tenant)

    async def _verify_gone(self, work: Work) -> None:
        """What was written between the purge and now, by a call or a log that had begun before, goes as well."""
        if await self._purge.left(work.tenant):
            await self._purge_data(work)
            await self._purge.control(work.tenant)
            left = await self._purge.left(work.tenant)
            if left:
                raise Conflict(f"Somebody still writes: {', '.join(sorted(left))}")

    async def _bury(self, work: Work) -> None:
        await self._tenants.bury(work.tenant, work.operation.id)
        plane = await self._tenants.get(self._control_plane)
        if plane is not None:
            details = {"by": work.operation.actor, "operation": work.operation.id}
            self._audit.add(plane, "app-deleted", subject=work.tenant.id, details=details)

    async def _follow_creation(self, work: Work) -> None:
        await self._run_hooks(work, self._hooks().after("after_create"))

    async def _follow_deletion(self, work: Work) -> None:
        await self._run_hooks(work, self._hooks().after("after_delete"))

    async def _run_hooks(self, work: Work, hooks: tuple[After, ...]) -> None:
        operation = work.operation
        call = TenantCall(operation.app_id, operation.actor, operation.provider)
        failures = [name for hook in hooks if (name := await run_after(hook, call, work.tenant)) is not None]
        if failures:
            await work.note(hook_failures=failures)


async def run_after(hook: After, call: TenantCall, tenant: Tenant) -> str | None:
    """Runs a hook by itself, again where it fails; its name if it has failed for good (CP-26)."""
    name = getattr(hook, "__qualname__", type(hook).__name__)
    for attempt in range(HOOK_ATTEMPTS):
        try:
            await hook(call, tenant)
        except Exception:
            log.exception("a hook after a change of an app failed", tenant=tenant.id, hook=name)
            await asyncio.sleep(HOOK_PAUSE * 2**attempt)
        else:
            return None
    return name


def _expect(tenant: Tenant, state: str) -> None:
    if tenant.status != state:
        raise Conflict(f"The app is {tenant.status}")
