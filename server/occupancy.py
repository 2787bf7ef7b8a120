"""Occupancy: sockets of tenants with a limit hold slots, which are counted over all processes; others cost nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping

import structlog

from hooks.errors import FeathersError
from hooks.tenant import Tenant
from server.connection import Connection
from server.connections import Connections
from services.control.slots import Slots

log = structlog.get_logger()


class Occupancy:
    """Lets sockets in as long as there is room."""

    def __init__(self, connections: Connections, slots: Slots, plans: Mapping[str, int] | None = None) -> None:
        """`plans` are the limits of tenants that have none of their own, by plan."""
        self._connections = connections
        self._slots = slots
        self._plans = plans or {}
        self._counted: set[str] = set()

    def limit_of(self, tenant: Tenant) -> int | None:
        """How many sockets the tenant may have; None is any number."""
        own = tenant.limits.max_concurrent_connections
        return self._plans.get(tenant.plan) if own is None else own

    async def enter(self, connection: Connection, tenant: Tenant | None = None) -> bool:
        """Takes a slot for a socket that is about to be accepted, or that is about to go on in another tenant.

        Answers whether the tenant has a limit, and the database was asked.

        Raises:
            TooManyRequests: there is none left, with the reason `TooManyConnections`. Unavailable: nobody can tell.
        """
        tenant = tenant or connection.tenant
        limit = self.limit_of(tenant)
        if limit is None:
            return False
        if tenant.id not in self._counted:
            await self._count(tenant)
        await self._slots.reserve(tenant.id, connection, limit)
        return True

    def leave(self, connection: Connection, tenant: Tenant | None = None) -> None:
        """Gives the slot back."""
        self._slots.release((tenant or connection.tenant).id, connection)

    async def follow(self, tenant: Tenant) -> None:
        """A tenant was changed: a limit counts those who are there, and turns some of them out where that is asked for."""
        limit = self.limit_of(tenant)
        if limit is None:
            self._counted.discard(tenant.id)
            return
        try:
            total = await self._count(tenant)
        except FeathersError as error:
            log.warning("connections could not be counted", tenant=tenant.id, error=type(error).__name__)
            return
        if total > limit and tenant.limits.enforce == "evict_oldest":
            await self._turn_out(tenant, total, limit)

    async def _count(self, tenant: Tenant) -> int:
        total = await self._slots.adopt(tenant.id, self._connections.of(tenant.id))
        self._counted.add(tenant.id)
        return total

    async def _turn_out(self, tenant: Tenant, total: int, limit: int) -> None:
        """Closes this node's share of those that are too many, the oldest first."""
        own = [*self._connections.of(tenant.id)]
        for connection in own[: math.ceil((total - limit) * len(own) / total)]:
            await connection.socket.close()
