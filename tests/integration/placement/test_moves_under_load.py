"""8.2.11, LIMITS T6: three apps are written and listened to without a break while one of them moves all the way round."""

from __future__ import annotations

import asyncio

import pytest

from server.main import Roost
from tests.conftest import StartRoost
from tests.integration.placement.moving import contents, finalize, move
from tests.integration.placement.traffic import Traffic
from tests.support.placed import CLUSTERS, cluster_settings

pytestmark = pytest.mark.shared_only("moves apps from the shared database over every other model and back")

THREE = """
tenants:
  - {id: first, services: {notes: {rules: {default: public}}}}
  - {id: moved, services: {notes: {rules: {default: public}}}}
  - {id: third, services: {notes: {rules: {default: public}}}}
"""
APPS = ("first", "moved", "third")
PAUSE = 2.0
"""Seconds for which the app on the move may not be written, at most."""


async def test_nothing_is_lost_doubled_or_out_of_order(roosts: StartRoost) -> None:
    """The short form: the move is as long as it takes, beside 200 records a second."""
    roost = await roosts(THREE, **cluster_settings())
    await all_the_way_round(roost, rate=200, seconds=0)


@pytest.mark.load
@pytest.mark.timeout(300)
@pytest.mark.parametrize("rate", [200, 500])
async def test_a_minute_of_it(roosts: StartRoost, rate: int) -> None:
    """T6: 500 writes a second; 200 are what two cores do without waiting."""
    roost = await roosts(THREE, **cluster_settings())
    await all_the_way_round(roost, rate=rate, seconds=60)


async def all_the_way_round(roost: Roost, *, rate: float, seconds: float) -> None:
    """Moves one app shared -> database -> cluster -> shared under writes, until so many seconds are over."""
    CLUSTERS.uri("own")
    pauses: list[float] = []
    moves = 0
    deadline = asyncio.get_running_loop().time() + seconds
    async with Traffic(roost, APPS, rate) as traffic:
        while not moves or asyncio.get_running_loop().time() < deadline:
            for model in ("database", "cluster", "shared"):
                moved = await move(roost, "moved", model)
                pauses.append(moved.notes["switched"]["pause"])
                await finalize(roost, "moved")
                moves += 1
        await traffic.end()
        stored = {app_id: (await contents(roost, app_id))["notes"] for app_id in APPS}
        traffic.check(stored)
        records = sum(map(len, stored.values()))
        refused = len(traffic.refusals("moved"))
        others = max(traffic.longest("first"), traffic.longest("third"))
        print(  # noqa: T201 - the figures are what the test is for
            f"\n{moves} moves beside {records} records: writes stood still for at most {max(pauses):.3f} s, "
            f"a writer waited {traffic.longest('moved'):.3f} s and was refused {refused} times in all; "
            f"others waited {others:.3f} s and were refused 0 times"
        )
        assert refused > 0
        assert max(pauses) <= PAUSE
        assert traffic.longest("moved") <= PAUSE
        for app_id in ("first", "third"):
            assert traffic.refusals(app_id) == []
