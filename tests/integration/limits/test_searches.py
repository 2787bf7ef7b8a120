"""The rate `search`: milliseconds that searches take, paid in advance by what earlier ones took (LIMITS N1, TENANCY RL-6)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, get_args

import pytest

from hooks.context import HookContext, Params
from hooks.errors import TooManyRequests
from hooks.searching import pay_for_searches
from hooks.tenant import Tenant, tenant_scope
from services.application import Application
from services.database.deployment import Deployment, Path
from services.limits.rates import Rates
from services.limits.searches import FIRST, SearchTimes
from services.limits.store import RateStore
from services.store import Collection, Namespace
from tests.conftest import StartRoost
from tests.integration.limits.conftest import limited
from tests.support.client import connect, outcome

APPS = """
tenants:
  - id: acme
    limits: {rates: {search: {tenant: {limit: 1, seconds: 1000}}}}
    services: {notes: {multi: true, rules: {default: public}}}
  - id: globex
    services: {notes: {multi: true, rules: {default: public}}}
"""
SLOW = 0.03


class Searching:
    """A tenant's calls of one node, each of which keeps the database busy for a while."""

    def __init__(self, store: RateStore, tenant: Tenant, records: Collection) -> None:
        """`records` has one record."""
        self.tenant = tenant
        self.times = SearchTimes()
        self.hook = pay_for_searches(Rates(store), self.times)
        self.records = records

    async def call(
        self, seconds: float, *, provider: str | None = "socketio", fails: bool = False, **call: Any
    ) -> bool:
        """Makes a call that takes so long; whether it was let through."""
        params = Params(tenant=self.tenant, provider=provider)
        context = HookContext(
            app=Application(), service=None, path="notes", params=params, **{"method": "find", **call}
        )
        has_begun = False

        async def work() -> None:
            nonlocal has_begun
            has_begun = True
            with tenant_scope(self.tenant):
                assert len(await self.records.find({"$where": f"sleep({seconds * 1000}) || true"})) == 1
            if fails:
                raise RuntimeError

        try:
            await self.hook(context, work)
        except TooManyRequests:
            assert not has_begun
        except RuntimeError:
            pass
        return has_begun

    async def count(self, calls: int, seconds: float, **call: Any) -> int:
        return sum([await self.call(seconds, **call) for _ in range(calls)])


@pytest.fixture(params=get_args(Path))
async def searching(
    request: pytest.FixtureRequest, store: RateStore, mongod: str, database: str
) -> AsyncIterator[Searching]:
    """By either path to the database."""
    deployment = Deployment(mongod, path=request.param)
    await deployment.open()
    records = deployment.collection(Namespace(f"{database}_control", "records"))
    await records.insert([{"_id": {"a": "acme", "i": "1"}, "app_id": "acme"}])
    yield Searching(store, limited(kind="search", limit=200, seconds=1000), records)
    await deployment.close()


async def test_waiting_for_a_connection_is_free(searching: Searching) -> None:
    """Of ten at once most wait for the app's earlier ones: together they pay for what the database did."""
    through = await asyncio.gather(*(searching.call(SLOW) for _ in range(10)))
    assert sum(through) == 10
    assert searching.times.expected("acme") < 3 * SLOW * 1000


@pytest.mark.parametrize("call", [{}, {"method": "patch"}, {"method": "remove"}, {"fails": True}], ids=str)
async def test_slow_searches_use_up_what_there_is(searching: Searching, call: dict[str, Any]) -> None:
    """However they end; the last of them may owe."""
    assert 2 <= await searching.count(15, SLOW, **call) <= 200 / (SLOW * 1000) + 1


async def test_quick_searches_get_back_what_they_paid_in_advance(searching: Searching) -> None:
    assert await searching.count(40, 0) == 40, "at the price of the first there would be twenty"


@pytest.mark.parametrize(
    "call", [{"method": "patch", "id": "1"}, {"method": "remove", "id": "1"}, {"provider": None}], ids=str
)
async def test_what_looks_for_nothing_and_what_the_server_does_is_free(
    searching: Searching, call: dict[str, Any]
) -> None:
    assert await searching.count(15, SLOW, **call) == 15


async def test_those_who_come_at_once_pay_before_it_is_known_what_they_take(searching: Searching) -> None:
    """A hundred at the same moment are let through for what a hundred are expected to take, not for nothing."""
    for _ in range(20):
        searching.times.learn("acme", 50)
    through = await asyncio.gather(*(searching.call(SLOW) for _ in range(100)))
    assert 1 <= sum(through) <= 5


def test_the_price_follows_the_newest_searches_of_this_tenant() -> None:
    times = SearchTimes()
    assert times.expected("acme") == FIRST
    for _ in range(20):
        times.learn("acme", 0)
        times.learn("globex", 80)
    assert times.expected("acme") == 1, "nothing is for nothing"
    assert 75 <= times.expected("globex") <= 80


async def test_an_app_that_owes_reads_by_id_and_writes_and_disturbs_nobody(roosts: StartRoost) -> None:
    roost = await roosts(APPS)
    async with connect(roost, "acme") as ada, connect(roost, "globex") as eve:
        made = await ada.call("create", "notes", {"n": 1}, {})
        answers = [await outcome(ada, "find", "notes", {}) for _ in range(5)]
        refused = answers[-1]
        assert (refused.code, refused.data["reason"], refused.data["limit"]) == (429, "RateLimited", "search")
        assert refused.data["retry_after"] > 1
        assert (await outcome(ada, "remove", "notes", None, {"n": 7})).code == 429
        assert await ada.call("get", "notes", made["_id"], {}) == made
        assert (await ada.call("patch", "notes", made["_id"], {"n": 2}, {}))["n"] == 2
        for _ in range(5):
            assert (await eve.call("find", "notes", {}))["data"] == []
