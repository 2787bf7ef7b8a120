"""Hooks of the synced services: the answer to a write in the control plane tells that it is on its way (SY-2)."""

from __future__ import annotations

from collections.abc import Mapping
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
PERMISSION: Final = "create:tenant_operations"
"""What a caller must hold who waits."""
_WRITING: Final = ("create", "update", "patch", "remove")


def sync_hooks(sync: Sync) -> HooksByKind:
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
            shown["results"] = await sync.settled(told)
        context.result = {**context.result, "sync": shown}

    def check(context: HookContext) -> None:
        told, params = listened(), context.params
        if told is None or not told.wait or params.provider is None:
            return
        if PERMISSION not in effective(permissions_of(params.user)):
            raise Forbidden(f"Only who holds '{PERMISSION}' waits for the sync")

    return {
        "around": {method: [tell] for method in _WRITING},
        "before": {method: [check] for method in _WRITING},
    }
