"""Both logs: what a manager from the control plane does to an app is told in the app's audit log and in his own (OB-5)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

from hooks.context import Params
from hooks.errors import FeathersError
from hooks.permission import PRINCIPAL_PREFIX
from hooks.tenant import Tenant
from services.audit import Audit

log = structlog.get_logger()


class BothLogs:
    """Adds entries to audit logs."""

    def __init__(self, audit: Audit, control_plane: Callable[[], Awaitable[Tenant | None]]) -> None:
        """`control_plane` tells its tenant as it is now."""
        self._audit = audit
        self._control_plane = control_plane

    async def add(self, params: Params, event: str, *, subject: str, details: Mapping[str, Any]) -> None:
        """An entry in the log of the call's app; and in the control plane's, if one of its managers calls."""
        actor = str((params.user or {}).get("_id", "")) or None
        self._audit.add(params.tenant, event, actor_id=actor, subject=subject, params=params, details=details)
        if actor is None or not actor.startswith(PRINCIPAL_PREFIX):
            return
        try:
            plane = await self._control_plane()
        except FeathersError as error:
            log.warning("not in the control plane's log", tenant=params.tenant.id, event_name=event, error=error.name)
            return
        if plane is not None and plane.id != params.tenant.id:
            manager = actor.removeprefix(PRINCIPAL_PREFIX)
            told = {"app": params.tenant.id, **details}
            self._audit.add(plane, event, actor_id=manager, subject=params.tenant.id, params=params, details=told)
