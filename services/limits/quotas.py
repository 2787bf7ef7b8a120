"""Quotas: how much a tenant may use in a month, counted over all nodes before it is used.

A node counts some units ahead, and gives back what is left when it stops. One that is killed leaves those counted that it did
not use: at most a batch. Where the database cannot be asked and no unit is left here, the answer is no: quotas are for bills.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from hooks.context import Params, Record
from hooks.errors import FeathersError, Forbidden
from hooks.tenant import Tenant
from services.base import Service
from services.cache import Shelves
from services.limits.store import QuotaStore

log = structlog.get_logger()

PATH = "quotas"
QUOTAS_RULES = {"find": {"permission": "read:tenant_settings"}}
NAMES = ("calls", "writes")
"""What can be counted: calls from outside, and those of them that write."""
BATCH = 0.01
"""The part of a quota that a node counts ahead, at most `MOST_AHEAD` units."""
MOST_AHEAD = 100
REFUSED = 1.0
"""Seconds for which calls are refused here, once a quota is used up, before it is asked whether there is some again."""


class QuotaExceeded(Forbidden):
    """The quota of this app is used up."""


@dataclass(slots=True)
class _Ahead:
    """What a node has of a quota."""

    units: int = 0
    """They are counted, and not used yet."""
    empty_until: float = 0.0


class Quotas:
    """Counts what tenants use."""

    def __init__(
        self,
        store: QuotaStore,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._now = now
        self._clock = clock
        self._ahead: Shelves[_Ahead] = Shelves()
        """By tenant, and name and period."""

    async def use(self, tenant: Tenant, *names: str) -> None:
        """Counts one unit of each of these quotas that the tenant has.

        Raises:
            QuotaExceeded: one is used up, and none was counted; `data` has its name, limit and use. Unavailable: nobody can be
                asked, likewise.
        """
        counted: list[_Ahead] = []
        try:
            for name in names:
                limit = tenant.limits.quotas.get(name)
                if limit is not None:
                    counted.append(await self._use(tenant, name, limit))
        except FeathersError:
            for ahead in counted:
                ahead.units += 1
            raise

    async def _use(self, tenant: Tenant, name: str, limit: int) -> _Ahead:
        period = self.period()
        key = f"{name}:{period}:{limit}"
        ahead = self._ahead.get(tenant.id, key)
        if ahead is None:
            ahead = _Ahead()
            self._ahead.put(tenant.id, key, ahead)
        if not ahead.units and self._clock() >= ahead.empty_until:
            want = max(1, min(MOST_AHEAD, int(limit * BATCH)))
            granted, _ = await self._store.reserve(tenant.id, name, period, want, limit)
            ahead.units += granted
            if not granted:
                ahead.empty_until = self._clock() + REFUSED
        if not ahead.units:
            data = {"reason": "QuotaExceeded", "name": name, "limit": limit, "used": limit}
            raise QuotaExceeded(f"The app has used its {limit} {name} of this month", data=data)
        ahead.units -= 1
        return ahead

    async def show(self, tenant: Tenant) -> list[Record]:
        """What the tenant may use in this month, and has used; what nodes count ahead is in it."""
        period = self.period()
        return [
            {
                "_id": name,
                "name": name,
                "limit": limit,
                "used": await self._store.used(tenant.id, name, period),
                "period": period,
                "resets_at": _next_month(self._now()),
            }
            for name, limit in sorted(tenant.limits.quotas.items())
        ]

    async def stop(self) -> None:
        """Gives back what was counted ahead."""
        for app_id, key, ahead in self._ahead.all():
            name, period, _ = key.split(":")
            units, ahead.units = ahead.units, 0
            if units:
                try:
                    await self._store.give_back(app_id, name, period, units)
                except FeathersError as error:
                    log.warning("quotas: units were not given back", tenant=app_id, error=type(error).__name__)

    def period(self) -> str:
        """The month, in UTC."""
        return f"{self._now():%Y-%m}"


class QuotasService(Service):
    """`{_id, name, limit, used, period, resets_at}` for each quota of the app."""

    schema = {
        "_id": {"type": "string", "required": True},
        "name": {"type": "string"},
        "limit": {"type": "number"},
        "used": {"type": "number"},
        "period": {"type": "string"},
        "resets_at": {"type": "string"},
        "additionalProperties": False,
    }

    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas

    async def find(self, params: Params) -> list[Record]:
        """All quotas of the app."""
        return await self._quotas.show(params.tenant)


def _next_month(now: datetime) -> datetime:
    first: dict[str, Any] = {"day": 1, "hour": 0, "minute": 0, "second": 0, "microsecond": 0}
    if now.month == 12:
        return now.replace(year=now.year + 1, month=1, **first)
    return now.replace(month=now.month + 1, **first)
