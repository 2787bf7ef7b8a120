"""Schedules (TENANCY JB-2, LIMITS F8, F9): once for each tenant at each tick, whatever nodes and clocks do."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from services.jobs.clock import Clock
from services.jobs.model import State
from tests.integration.jobs.conftest import CONTROL_PLANE, House, nothing
from tests.support.client import until

START = datetime(2024, 5, 6, 7, 8, tzinfo=UTC)


async def ticks(house: House, app_id: str) -> list[str]:
    found, _ = await house.store.find(app_id, {}, 0, 10_000)
    return sorted(str(job["_id"]).rpartition(":")[2] for job in found)


async def test_each_tenant_that_is_served_gets_one_job_at_each_tick(house: House) -> None:
    """JB-2: in its own context; a tenant that is not ready gets none, and neither does the control plane."""
    house.jobs.handle("digest", nothing)
    schedule = house.jobs.schedule("digest", "*/10 * * * *", "digest", payload={"kind": "daily"})
    house.set("globex", status="suspended")
    now = START
    clock = Clock(house.jobs, house.all)
    assert await clock.see_to(schedule, now) == START.replace(minute=10)
    assert await ticks(house, "acme") == []
    now = START.replace(minute=10)
    assert await clock.see_to(schedule, now) == START.replace(minute=20)
    await clock.see_to(schedule, now)
    assert await ticks(house, "acme") == ["20240506T071000"]
    assert await ticks(house, "globex") == await ticks(house, CONTROL_PLANE) == []
    job = await house.document("acme", "acme:digest:20240506T071000")
    assert (job["payload"], job["key"]) == ({"kind": "daily"}, "digest")


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.load)])
async def test_two_nodes_make_each_tick_exactly_once(house: House, count: int) -> None:
    """F8, F9, JB-2: also when their clocks differ by minutes."""
    house.jobs.handle("digest", nothing)
    schedule = house.jobs.schedule("digest", "* * * * *", "digest")
    clocks = [(Clock(house.jobs, house.all), START), (Clock(house.jobs, house.all), START - timedelta(minutes=5))]
    for n in range(count + 6):
        await asyncio.gather(*(clock.see_to(schedule, began + timedelta(minutes=n)) for clock, began in clocks))
    wanted = [f"{START + timedelta(minutes=n):%Y%m%dT%H%M%S}" for n in range(1, count + 6)]
    made = [tick for tick in await ticks(house, "acme") if tick >= wanted[0]]
    assert Counter(made) == Counter(wanted)


async def test_a_node_that_dies_in_the_middle_leaves_the_tick_to_others(house: House) -> None:
    """JB-2: what it made is not made again, and the rest is made up for."""
    house.jobs.handle("digest", nothing)
    schedule = house.jobs.schedule("digest", "* * * * *", "digest")
    now = START

    async def broken():  # type: ignore[no-untyped-def]
        yield house.tenants["acme"]
        raise ConnectionError

    await Clock(house.jobs, house.all).see_to(schedule, now)
    now += timedelta(minutes=1)
    with pytest.raises(ConnectionError):
        await Clock(house.jobs, broken).see_to(schedule, now)
    assert (await ticks(house, "acme"), await ticks(house, "globex")) == (["20240506T070900"], [])
    await Clock(house.jobs, house.all).see_to(schedule, now)
    assert await ticks(house, "acme") == await ticks(house, "globex") == ["20240506T070900"]


async def test_after_a_long_sleep_only_the_latest_tick_is_made_up_for(house: House) -> None:
    house.jobs.handle("digest", nothing)
    schedule = house.jobs.schedule("digest", "0 * * * *", "digest")
    now = START
    clock = Clock(house.jobs, house.all)
    await clock.see_to(schedule, now)
    now += timedelta(days=3)
    await clock.see_to(schedule, now)
    assert await ticks(house, "acme") == ["20240509T070000"]


async def test_tenants_are_spread_over_the_jitter(house: House) -> None:
    """JB-2."""
    house.jobs.handle("digest", nothing)
    schedule = house.jobs.schedule("digest", "* * * * *", "digest", jitter=30.0)
    now = START
    clock = Clock(house.jobs, house.all)
    await clock.see_to(schedule, now)
    now += timedelta(minutes=1)
    await clock.see_to(schedule, now)
    times = [(await house.document(id, f"{id}:digest:20240506T070900"))["run_at"] for id in ("acme", "globex")]
    tick = START + timedelta(minutes=1)
    assert times[0] != times[1]
    assert all(tick <= at < tick + timedelta(seconds=30) for at in times)


async def test_a_schedule_never_overlaps_itself_in_a_tenant(house: House) -> None:
    """JB-2: per tenant one at a time; the next waits for the one before."""
    running = most = 0
    go_on = asyncio.Event()

    async def work(job: object) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await go_on.wait()
        running -= 1

    house.jobs.handle("digest", work)
    schedule = house.jobs.schedule("digest", "* * * * *", "digest")
    now = START
    clock = Clock(house.jobs, house.all)
    await clock.see_to(schedule, now)
    await house.node().start()
    for _ in range(2):
        now += timedelta(minutes=1)
        await clock.see_to(schedule, now)
    first, second = "acme:digest:20240506T070900", "acme:digest:20240506T071000"
    waiting = await house.until("acme", second, lambda job: job.get("reason") is not None)
    assert waiting["reason"] == "the one before still runs"
    go_on.set()
    assert (await house.ended("acme", first))["state"] == (await house.ended("acme", second))["state"] == State.DONE
    assert most <= 2, "at most one of each tenant"


async def test_control_plane_schedules_are_for_it_alone(house: House) -> None:
    """JB-4."""
    house.jobs.handle("reconcile", nothing, control=True)
    schedule = house.jobs.schedule("nightly", "* * * * *", "reconcile")
    now = START
    clock = Clock(house.jobs, house.all)
    await clock.see_to(schedule, now)
    now += timedelta(minutes=1)
    await clock.see_to(schedule, now)
    assert await ticks(house, "acme") == []
    assert await ticks(house, CONTROL_PLANE) == ["20240506T070900"]


async def test_the_clock_goes_by_itself(house: House) -> None:
    """A schedule of every second, in real time."""
    house.jobs.handle("digest", nothing)
    house.jobs.schedule("digest", "* * * * * *", "digest")
    clock = Clock(house.jobs, house.all)

    async def twice() -> bool:
        return len(await ticks(house, "acme")) >= 2

    await clock.start()
    try:
        await until(twice, 10)
    finally:
        await clock.stop()


@pytest.mark.parametrize("ahead", [timedelta(minutes=11), timedelta(days=400)])
async def test_a_last_tick_of_a_wrong_clock_does_not_silence_a_schedule(house: House, ahead: timedelta) -> None:
    """Such as one of a version that went by the nodes' clocks; what was made is not made again."""
    house.jobs.handle("digest", nothing)
    schedule = house.jobs.schedule("digest", "* * * * *", "digest")
    await house.store.last_tick("digest", START)
    await house.store.ticked("digest", START + ahead)
    clocks = Clock(house.jobs, house.all), Clock(house.jobs, house.all)
    for n in range(4):
        await asyncio.gather(*(clock.see_to(schedule, START + timedelta(minutes=n)) for clock in clocks))
    assert await ticks(house, "acme") == ["20240506T070900", "20240506T071000", "20240506T071100"]
    assert await house.store.last_tick("digest", START) == START + timedelta(minutes=3)


async def test_the_time_is_that_of_the_database(house: House) -> None:
    """F8: the one that all nodes share; writes are stamped by the same clock."""
    samples = house.deployment.client[f"{house.database}_control"]["samples"]
    before = await house.store.now()
    await samples.insert_one({"_id": 1})
    await samples.update_one({"_id": 1}, [{"$set": {"at": "$$NOW"}}])
    kept = await samples.find_one({"_id": 1})
    assert kept is not None
    assert before <= kept["at"] <= await house.store.now()
