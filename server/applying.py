"""The declaration at a start: applied before the server listens, and its new apps waited for, all of them at once."""

from __future__ import annotations

import structlog

from server.backend import Backend
from services.declaration import Declaration

log = structlog.get_logger()

MAKING = 60.0
"""Seconds for which a start waits for new apps, at most: databases of their own may take long to make."""


async def apply_at_start(backend: Backend, declaration: Declaration) -> None:
    """Applies a declaration. What is not ready then is made beside the others that are served, and said in the log.

    An app whose database cannot be reached is not waited for: it is tried again like any other operation.
    """
    for change in await backend.apply(declaration, MAKING):
        log.info("applied", tenant=change.tenant, outcome=change.outcome, withdrawn=change.withdrawn)
        tenant = await backend.tenants.get(change.tenant)
        if tenant is not None and tenant.status in ("provisioning", "failed"):
            log.warning("an app is not served yet: it is still being made", tenant=tenant.id, state=tenant.status)
