"""Handlers and schedules that misbehave (TENANCY JB-1..5): they cost their own job, and nobody else's."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cronsim import CronSim

from hooks.tenant import current_tenant, tenant_scope
from server.main import Roost
from services.control.operations import SUCCEEDED
from services.control.sagas import DELETE
from services.jobs import worker
from services.jobs.clock import Clock
from services.jobs.model import GiveUp, Handler, Job, Schedule, State
from services.jobs.worker import LONGEST_REASON
from tests.integration.jobs.conftest import House, nothing
from tests.support.client import until


async def _cancel(job: Job) -> None:
    raise asyncio.CancelledError


async def _wait_for_cancelled(job: Job) -> None:
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


async def _exit(job: Job) -> None:
    sys.exit(3)


@pytest.mark.parametrize("work", [_cancel, _wait_for_cancelled, _exit])
async def test_a_handler_that_ends_itself_has_failed(house: House, work: Any) -> None:
    """It is tried again at its own pace and given up, not found by its lease; the server goes on."""
    house.jobs.handle("odd", work, attempts=2)
    house.jobs.handle("mail", nothing)
    await house.node().start()
    job = await house.enqueue("acme", "odd")
    ended = await house.ended("acme", job)
    assert (ended["state"], ended["attempt"]) == (State.FAILED, 2)
    assert (await house.ended("globex", await house.enqueue("globex", "mail")))["state"] == State.DONE


@pytest.mark.parametrize("text", ["x" * 17_000_000, "half \ud800 of a pair"])
async def test_whatever_a_handler_says_its_job_ends(house: House, text: str) -> None:
    async def give_up(job: Job) -> None:
        raise GiveUp(text)

    house.jobs.handle("odd", give_up)
    await house.node().start()
    ended = await house.ended("acme", await house.enqueue("acme", "odd"))
    assert ended["state"] == State.FAILED
    assert ended["reason"] == text[:LONGEST_REASON].replace("\ud800", "?")


class Stubborn:
    """A handler that swallows each cancellation, until it is let go."""

    def __init__(self) -> None:
        self.running = 0
        self.tenants: list[str] = []
        self.free = asyncio.Event()

    async def work(self, job: Job) -> None:
        self.running += 1
        self.tenants.append(current_tenant().id)
        while not self.free.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self.free.wait()
        self.running -= 1


async def test_a_handler_that_does_not_end_takes_the_places_of_its_own_app_alone(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "LEAVE", 0.05)
    stubborn = Stubborn()
    house.jobs.handle("odd", stubborn.work, timeout=0.05)
    house.jobs.handle("mail", nothing)
    node = house.node(at_once=1, per_tenant=2)
    await node.start()
    for _ in range(2):
        ended = await house.ended("acme", await house.enqueue("acme", "odd"))
        assert (ended["state"], ended["attempt"], ended["reason"]) == (State.FAILED, 1, "it does not end")
    assert stubborn.tenants == ["acme", "acme"]
    waiting = await house.enqueue("acme", "mail")
    assert (await house.ended("globex", await house.enqueue("globex", "mail")))["state"] == State.DONE
    assert (await house.document("acme", waiting))["state"] == State.WAITING
    stubborn.free.set()
    assert (await house.ended("acme", waiting))["state"] == State.DONE
    assert stubborn.running == 0


async def test_a_handler_that_does_not_end_holds_up_neither_its_apps_end_nor_the_nodes(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "LEAVE", 0.05)
    stubborn = Stubborn()
    house.jobs.handle("odd", stubborn.work)
    house.jobs.handle("mail", nothing)
    node = house.node(at_once=1)
    await node.start()
    await house.enqueue("acme", "odd")
    await until(lambda: stubborn.running == 1)
    house.set("acme", status="deleting")
    assert (await house.ended("globex", await house.enqueue("globex", "mail")))["state"] == State.DONE
    await house.enqueue("globex", "odd")
    await until(lambda: stubborn.running == 2)
    async with asyncio.timeout(5):
        await node.stop(grace=0)
    stubborn.free.set()
    await until(lambda: stubborn.running == 0)


async def test_a_handler_that_ends_late_but_well_has_done_its_job(house: House) -> None:
    async def finish(job: Job) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    house.jobs.handle("careful", finish, timeout=0.05)
    await house.node().start()
    assert (await house.ended("acme", await house.enqueue("acme", "careful")))["state"] == State.DONE


async def test_a_node_that_stops_leaves_its_jobs_to_others(house: House) -> None:
    """A cancellation that is the worker's own is no failure of the handler."""
    began = asyncio.Event()

    async def hang(job: Job) -> None:
        began.set()
        await asyncio.Event().wait()

    house.jobs.handle("slow", hang)
    node = house.node()
    await node.start()
    job = await house.enqueue("acme", "slow")
    async with asyncio.timeout(5):
        await began.wait()
    await node.stop(grace=0)
    assert (await house.document("acme", job))["state"] == State.RUNNING


@pytest.mark.parametrize(
    "cron", ["* * * * * *", "* * * * *", "*/7 3 * * *", "0 0 29 2 *", "0 0 L * *", "30 2 * * 0", "0 0 29 2 1#1"]
)
def test_the_latest_tick_is_the_one_before_the_next(cron: str) -> None:
    schedule = Schedule("s", cron, "h")
    moments = [
        datetime(2024, 2, 29, tzinfo=UTC), datetime(2024, 2, 29, 0, 0, 0, 1, tzinfo=UTC),
        datetime(2025, 3, 30, 2, 30, tzinfo=UTC), datetime(2025, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    ]  # fmt: skip
    for moment in moments:
        latest = schedule.latest(moment)
        assert latest <= moment < schedule.after(latest)
        assert next(CronSim(cron, latest - timedelta(microseconds=1))) == latest


async def test_a_schedule_of_each_second_does_not_count_through_years(house: House) -> None:
    """F8: after a clock that was set, or a database that was put back, the server is not held up by what it has missed."""
    house.jobs.handle("digest", nothing)
    schedule = house.jobs.schedule("digest", "* * * * * *", "digest")
    now = datetime(2025, 1, 1, tzinfo=UTC)
    await house.store.last_tick("digest", now - timedelta(days=3650))
    began = time.process_time()
    assert await Clock(house.jobs, house.all).see_to(schedule, now) == now + timedelta(seconds=1)
    assert time.process_time() - began < 2
    assert (await house.document("acme", "acme:digest:20250101T000000"))["state"] == State.WAITING


@pytest.mark.parametrize("payload", [{"app_id": "globex"}, {"text": "x" * 100_000}, {"at": datetime.now(UTC)}])
async def test_a_schedule_whose_jobs_nobody_would_take_is_refused(house: House, payload: Any) -> None:
    house.jobs.handle("digest", nothing)
    with pytest.raises(ValueError, match="payload"):
        house.jobs.schedule("digest", "* * * * *", "digest", payload=payload)
    assert house.jobs.schedules == {}


async def test_a_schedule_that_breaks_stops_no_other(house: House) -> None:
    """Such as one whose handler is gone."""
    house.jobs.handle("digest", nothing)
    house.jobs.handlers["gone"] = Handler("gone", nothing)
    house.jobs.schedule("broken", "* * * * * *", "gone")
    house.jobs.schedule("whole", "* * * * * *", "digest")
    del house.jobs.handlers["gone"]
    clock = Clock(house.jobs, house.all)
    await clock.start()

    async def made() -> bool:
        found, _ = await house.store.find("acme", {"name": "digest"}, 0, 10)
        return len(found) >= 2

    try:
        await until(made, 10)
    finally:
        await clock.stop()


@pytest.mark.parametrize("is_known", [True, False])
async def test_what_runs_ends_with_its_app(house: House, is_known: bool) -> None:
    """JB-4: a job that goes on for minutes would write into an app that is purged; others go on, and are not disturbed."""
    began, ended = asyncio.Semaphore(0), list[str]()
    go_on = asyncio.Event()

    async def work(job: Job) -> None:
        began.release()
        try:
            await go_on.wait()
        except asyncio.CancelledError:
            ended.append(job.tenant.id)
            raise

    house.jobs.handle("slow", work)
    await house.node(lease=0.3).start()
    jobs = {app_id: await house.enqueue(app_id, "slow") for app_id in ("acme", "globex")}
    async with asyncio.timeout(5):
        await began.acquire()
        await began.acquire()
    if is_known:
        house.set("acme", status="deleting")
    else:
        del house.tenants["acme"]
    assert (await house.ended("acme", jobs["acme"]))["state"] == State.DROPPED
    assert ended == ["acme"]
    go_on.set()
    assert (await house.ended("globex", jobs["globex"]))["state"] == State.DONE
    assert ended == ["acme"]


async def test_nothing_of_an_app_is_purged_while_a_job_of_it_runs(roost: Roost) -> None:
    """JB-4: a node says that it serves the app no more when its jobs have ended, however seldom it looks at them by itself."""
    began, seen = asyncio.Event(), list[str]()

    async def work(job: Job) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.3)
            operation = await roost.backend.control.operations.latest("acme", DELETE)
            assert operation is not None
            seen.extend(step["name"] for step in operation.steps if step["state"] == SUCCEEDED)
            seen.append("the job has ended")
            raise

    roost.jobs.handle("slow", work)
    roost.background.worker._poll = 3600.0
    tenant = await roost.catalogue.get("acme")
    assert tenant is not None
    with tenant_scope(tenant):
        await roost.jobs.enqueue("slow")
    async with asyncio.timeout(10):
        await began.wait()
    lifecycle = roost.backend.control.lifecycle
    deleted = await lifecycle.settle((await lifecycle.delete("acme")).id, 20)
    assert deleted.state == SUCCEEDED
    assert seen == ["the job has ended"], "before the first step was over"


async def test_what_runs_for_a_suspended_app_may_end(house: House) -> None:
    """A suspension loses nothing: what has begun is done once."""
    began, go_on = asyncio.Event(), asyncio.Event()

    async def work(job: Job) -> None:
        began.set()
        await go_on.wait()

    house.jobs.handle("slow", work)
    await house.node().start()
    job = await house.enqueue("acme", "slow")
    async with asyncio.timeout(5):
        await began.wait()
    house.set("acme", status="suspended")
    await asyncio.sleep(0.1)
    go_on.set()
    found = await house.ended("acme", job)
    assert (found["state"], found["attempt"]) == (State.DONE, 1)
