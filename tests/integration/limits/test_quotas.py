"""Quotas (TENANCY RL-4, LIMITS N3): counted before use, over all nodes, by the month, closed when nobody can be asked."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from hooks.errors import Unavailable
from hooks.tenant import Limits, Tenant
from services.control.rates import MongoQuotaStore
from services.limits.quotas import QuotaExceeded, Quotas

MAY = datetime(2024, 5, 6, 7, 8, tzinfo=UTC)


def tenant(id: str = "acme", **quotas: int) -> Tenant:
    return Tenant(id, id.title(), limits=Limits(quotas=quotas))


async def use(quotas: Quotas, of: Tenant, times: int, name: str = "writes") -> int:
    """How often it was let through."""
    used = 0
    for _ in range(times):
        try:
            await quotas.use(of, name)
        except QuotaExceeded:
            continue
        used += 1
    return used


async def test_a_quota_is_used_up_and_no_further(quota_store: MongoQuotaStore) -> None:
    quotas = Quotas(quota_store, now=lambda: MAY)
    assert await use(quotas, tenant(writes=250), 300) == 250
    with pytest.raises(QuotaExceeded) as refused:
        await quotas.use(tenant(writes=250), "writes")
    assert (refused.value.code, refused.value.data) == (
        403,
        {"reason": "QuotaExceeded", "name": "writes", "limit": 250, "used": 250},
    )
    assert await use(quotas, tenant(writes=250), 3, "calls") == 3, "what has no quota is not counted"
    assert await use(quotas, tenant("globex", writes=250), 3) == 3


async def test_nodes_share_a_quota(quota_store: MongoQuotaStore) -> None:
    nodes = [Quotas(quota_store, now=lambda: MAY) for _ in range(3)]
    used = await asyncio.gather(*(use(node, tenant(writes=500), 300) for node in nodes))
    assert sum(used) == 500


async def test_a_new_month_begins_anew(quota_store: MongoQuotaStore) -> None:
    now = MAY
    quotas = Quotas(quota_store, now=lambda: now)
    assert await use(quotas, tenant(writes=5), 10) == 5
    now = datetime(2024, 6, 1, tzinfo=UTC)
    assert await use(quotas, tenant(writes=5), 10) == 5
    (shown,) = await quotas.show(tenant(writes=5))
    assert (shown["period"], shown["used"], shown["resets_at"]) == ("2024-06", 5, datetime(2024, 7, 1, tzinfo=UTC))
    now = datetime(2024, 12, 31, tzinfo=UTC)
    assert (await quotas.show(tenant(writes=5)))[0]["resets_at"] == datetime(2025, 1, 1, tzinfo=UTC)


async def test_what_was_not_used_is_given_back_at_the_end(quota_store: MongoQuotaStore) -> None:
    """N3: only a node that is killed leaves units counted, at most a batch of them."""
    quotas = Quotas(quota_store, now=lambda: MAY)
    of = tenant(writes=1000)
    assert await use(quotas, of, 3) == 3
    assert (await quotas.show(of))[0]["used"] == 10
    await quotas.stop()
    assert (await quotas.show(of))[0]["used"] == 3
    assert await use(Quotas(quota_store, now=lambda: MAY), of, 2000) == 997


async def test_a_quota_that_is_raised_goes_on(quota_store: MongoQuotaStore) -> None:
    quotas = Quotas(quota_store, now=lambda: MAY)
    assert await use(quotas, tenant(writes=5), 10) == 5
    assert await use(quotas, tenant(writes=8), 10) == 3


async def test_nobody_to_ask_is_a_no() -> None:
    """N3: quotas fail closed."""

    class Down:
        async def reserve(self, *arguments: Any) -> tuple[int, int]:
            raise Unavailable

        async def give_back(self, *arguments: Any) -> None:
            raise Unavailable

        async def used(self, *arguments: Any) -> int:
            raise Unavailable

    with pytest.raises(Unavailable):
        await Quotas(Down(), now=lambda: MAY).use(tenant(writes=5), "writes")


async def test_a_quota_that_is_used_up_costs_no_query(quota_store: MongoQuotaStore) -> None:
    """RL-5: whoever goes on calling writes nothing; what another node gives back is found within a second."""
    asked, now = 0, 0.0

    class Counting(MongoQuotaStore):
        async def reserve(self, *arguments: Any) -> tuple[int, int]:
            nonlocal asked
            asked += 1
            return await quota_store.reserve(*arguments)

    store = Counting(quota_store._deployment, database="unused")
    quotas = Quotas(store, now=lambda: MAY, clock=lambda: now)
    now = 1000.0
    assert await use(quotas, tenant(writes=5), 6) == 5
    before = asked
    assert await use(quotas, tenant(writes=5), 500) == 0
    assert asked == before
    await quota_store.give_back("acme", "writes", quotas.period(), 1)
    now += 1.1
    assert await use(quotas, tenant(writes=5), 5) == 1
    assert await use(quotas, tenant(writes=6), 5) == 1, "a quota that is raised counts at once"
