"""Grace: the wait until no process serves a tenant any more that was taken out of service (CP-25).

Every node says so itself, in its heartbeat, once the tenant's new state is in force there, its sockets are closed and its calls
have ended. Who is silent is waited for as long as a change takes that nobody tells of, and no longer.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import structlog

from services.control.nodes import Nodes
from services.control.sagas import Work

log = structlog.get_logger()

LOOK = 0.02
"""Seconds between two looks at what the nodes say."""


class Grace:
    """Waits until a change of a tenant's state is in force everywhere, by the time that the catalogue promises."""

    def __init__(self, nodes: Nodes, seconds: float = 5.0) -> None:
        """`seconds` is the longest wait, from the moment when the operation was asked for."""
        self._nodes = nodes
        self.seconds = seconds

    async def __call__(self, work: Work) -> None:
        """Returns when every node has acknowledged the tenant's epoch, is fenced, or has had its time.

        Raises:
            FeathersError: the database cannot be asked.
        """
        passed = (datetime.now(UTC) - work.operation.created_at).total_seconds()
        clock = asyncio.get_running_loop().time
        deadline = clock() + self.seconds - passed
        while silent := await self._silent(work.tenant.id, work.tenant.epoch):
            left = deadline - clock()
            if left <= 0:
                log.warning("nodes have not said that an app is out of service", tenant=work.tenant.id, nodes=silent)
                return
            await asyncio.sleep(min(LOOK, left))

    async def _silent(self, tenant_id: str, epoch: int) -> list[str]:
        nodes = [node for node in await self._nodes.all() if not node.is_fenced]
        return [node.id for node in nodes if node.acknowledged.get(tenant_id, 0) < epoch]
