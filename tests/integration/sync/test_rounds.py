"""SY-8, SY-10: one round of a worker: it is nobody else's as long as it goes on, and one tenant's fault is that tenant's."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hooks.context import Params, Record
from hooks.tenant import Tenant
from server.main import Roost
from services.control.sync.worker import SyncWorker
from tests.conftest import StartRoost
from tests.integration.control.managers import control_collection
from tests.integration.sync.people import APPS, CONTROL_PLANE, NORTH, SOUTH, tenant
from tests.integration.sync.test_faults import away, copies
from tests.support.client import fresh, until

SHORT = timedelta(seconds=0.5)


@pytest.fixture
async def roost(roosts: StartRoost) -> Roost:
    """A server whose own worker is stopped."""
    started = await roosts(APPS)
    await started.backend.sync.worker.stop()
    await worker(started).bring()
    return started


def worker(roost: Roost) -> SyncWorker:
    """One that works when it is told to."""
    sync = roost.backend.sync
    return SyncWorker(roost.backend.isolation, sync.mending, sync.outbox, sync.state, sync.targets)


async def change(roost: Roost, method: str, **arguments: Any) -> Record:
    """Changes a role of the control plane."""
    params = Params(tenant=await tenant(roost, CONTROL_PLANE))
    result: Record = (await roost.app.call("roles", method, params, **arguments)).result
    return result


class Gate:
    """Whoever makes a copy waits here, as for a database that is slow."""

    def __init__(self, roost: Roost) -> None:
        self.reached, self.opened = asyncio.Event(), asyncio.Event()
        roost.backend.sync.mending.copies.tell = self._wait

    async def _wait(self, target: Tenant, collection: str, event: str, record: Record) -> None:
        self.reached.set()
        await self.opened.wait()


async def test_a_round_that_takes_longer_than_its_lease_stays_with_its_node(roost: Roost) -> None:
    gate, outbox = Gate(roost), roost.backend.sync.outbox
    outbox.lease = SHORT
    await change(roost, "create", data={"name": fresh()})
    first = asyncio.create_task(worker(roost).bring())
    await gate.reached.wait()
    await is_renewed(control_collection(roost, "sync_events"), {"state": "pending"})
    assert not await worker(roost).bring()
    gate.opened.set()
    assert await first
    assert await outbox.oldest() is None


async def test_what_is_tried_again_for_longer_than_the_lease_stays_with_its_node(roost: Roost) -> None:
    state, rows = roost.backend.sync.state, control_collection(roost, "sync_state")
    state.lease = SHORT
    async with away(roost, SOUTH):
        await change(roost, "create", data={"name": fresh()})
        await worker(roost).bring()
    await rows.update_many({"status": "pending"}, {"$set": {"next_at": datetime.now(UTC)}})
    gate = Gate(roost)
    first = asyncio.create_task(worker(roost).retry())
    await gate.reached.wait()
    await is_renewed(rows, {"status": "pending"})
    assert not await worker(roost).retry()
    gate.opened.set()
    assert await first
    assert not await state.count({"status": "pending"})
    assert not await state.count({"token": {"$exists": True}})


async def is_renewed(records: Any, chosen: dict[str, Any]) -> None:
    """Returns when the lease with which something was taken up would be over, and was renewed."""
    until_then = (await records.find_one(chosen))["next_at"].replace(tzinfo=UTC)

    async def is_over() -> bool:
        found = await records.find_one(chosen)
        now = datetime.now(UTC)
        return now > until_then and bool(found["next_at"].replace(tzinfo=UTC) > now)

    await until(is_over)


@pytest.mark.parametrize(
    "placement", [{"model": "database", "unheard_of": 1}, "nowhere"], ids=["unknown field", "no object"]
)
async def test_a_tenant_whose_entry_cannot_be_read_stops_nobody(roost: Roost, placement: Any) -> None:
    """It is an error of that tenant, on record and tried again, in a round, a run and a look at it alone."""
    sync, tenants = roost.backend.sync, control_collection(roost, "tenants")
    before = await tenants.find_one({"_id": NORTH})
    await tenants.update_one({"_id": NORTH}, {"$set": {"placement": placement}})
    role = await change(roost, "create", data={"name": fresh()})
    assert await worker(roost).bring()
    assert len(await copies(roost, SOUTH, source_id=str(role["_id"]))) == 1
    [row] = await sync.state.find({"target": NORTH, "entity": "roles", "source_id": str(role["_id"])})
    assert row["status"] == "pending"
    assert (await sync.runs.work((await sync.runs.begin("by hand"))["_id"]))["failed"] == 1
    await tenants.update_one({"_id": NORTH}, {"$set": {"placement": before["placement"]}})
    due = {"$set": {"next_at": datetime.now(UTC)}}
    await control_collection(roost, "sync_state").update_many({"status": "pending"}, due)
    assert await worker(roost).retry()
    assert len(await copies(roost, NORTH, source_id=str(role["_id"]))) == 1


@pytest.mark.parametrize("is_known", [False, True], ids=["found out in this round", "known before"])
async def test_what_was_deleted_while_an_app_was_away_goes_when_it_is_looked_at_as_a_whole(
    roost: Roost, is_known: bool
) -> None:
    """SY-4, SY-9: its opt-out list and a deletion come in one round, which cannot reach it."""
    gone, kept = (
        await change(roost, "create", data={"name": fresh()}),
        await change(roost, "create", data={"name": fresh()}),
    )
    assert await worker(roost).bring()
    assert len(await copies(roost, SOUTH)) == 2
    async with away(roost, SOUTH):
        if is_known:
            await change(roost, "patch", id=kept["_id"], data={"description": "new"})
            await worker(roost).bring()
        await change(roost, "remove", id=gone["_id"])
        await roost.backend.sync.outbox.look_at(SOUTH, 1000)
        await worker(roost).bring()
    rows = control_collection(roost, "sync_state")
    await rows.update_many({"status": "pending"}, {"$set": {"next_at": datetime.now(UTC)}})
    await worker(roost).retry()
    assert [copy["source_id"] for copy in await copies(roost, SOUTH)] == [str(kept["_id"])]
    [row] = await roost.backend.sync.state.find({"target": SOUTH, "entity": "roles", "source_id": str(gone["_id"])})
    assert row["status"] == "removed"
