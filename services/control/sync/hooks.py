"""Hooks of the synced services: the answer to a write in the control plane tells that it is on its way (SY-2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from hooks.chain import Next
from hooks.context import HookContext
from hooks.errors import BadRequest, Forbidden
from hooks.permission import effective
from hooks.rules import permissions_of
from services.control.sync.engine import Sync
from services.control.sync.outbox import listened, listening
from services.entities.options import take_option
from services.registration import HooksByKind

WAIT: Final = "$wait"
PERMISSIONS: Final = frozenset({"create:tenant_operations", "read:tenants"})
"""What a caller must hold who waits: the answer names every app."""
Emit = Callable[..., Awaitable[None]]
"""`emit(event, record, *, tenant)`: tells the tenant's clients of an event of the service."""
_WRITING: Final = ("create", "update", "patch", "remove")


def sync_hooks(sync: Sync, emit: Emit) -> HooksByKind:
    """Adds `sync: {event_id, targets}` to what the control plane's own calls answer; with `$wait=sync` each tenant's result."""

    async def tell(context: HookContext, next: Next) -> None:
        if not context.tenant.is_control_plane:
            await next()
            return
        context.params.query, asked = take_option(context.params.query, WAIT)
        if any(value != "sync" for value in asked):
            raise BadRequest(f"'{WAIT}' is 'sync'")
        with listening() as told:
            told.wait = bool(asked)
            await next()
        if not told.events or not isinstance(context.result, Mapping):
            return
        sync.outbox.news.set()
        shown: dict[str, object] = {"event_id": [*told.events][-1], "targets": await sync.targets.count()}
        if told.wait:
            if context.event is not None:
                # What each app has to say is for the caller, and not for whoever may read what he has written.
                event, context.event = context.event, None
                await emit(event, {**context.result, "sync": dict(shown)}, tenant=context.tenant)
            shown["results"] = await sync.settled(told)
        context.result = {**context.result, "sync": shown}

    def check(context: HookContext) -> None:
        told, params = listened(), context.params
        if told is None or not told.wait or params.provider is None:
            return
        if missing := PERMISSIONS - effective(permissions_of(params.user)):
            raise Forbidden(f"Only who holds '{min(missing)}' waits for the sync")

    return {
        "around": {method: [tell] for method in _WRITING},
        "before": {method: [check] for method in _WRITING},
    }
