"""LIMITS F1 and F2: the primary is killed, frozen, and stepped down under load; on both command paths at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import get_args

import psutil
import pytest
from pymongo import AsyncMongoClient

from hooks.errors import Unavailable
from services.database.deployment import Deployment, Path
from services.database.lean import LeanCollection
from services.database.schema import CollectionSchema
from services.store import Document, Namespace
from tests.faults.workload import Workload
from tests.support.mongod import ReplicaSet

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]

_LONGEST_STALL_SECONDS = 5.0
_STEP_DOWNS = 3
_MOST_MEMORY_BYTES = 50 * 1024 * 1024


@pytest.fixture
def replica_set() -> Iterator[ReplicaSet]:
    with ReplicaSet(3) as replica_set:
        yield replica_set


@pytest.fixture
async def workloads(replica_set: ReplicaSet) -> AsyncIterator[list[Workload]]:
    deployments = [Deployment(replica_set.uri, path=path) for path in get_args(Path)]
    made = []
    for deployment, path in zip(deployments, get_args(Path), strict=True):
        await deployment.open()
        await deployment.ensure("faults", CollectionSchema("writes"))
        collection = deployment.collection(Namespace("faults", "writes"))
        assert isinstance(collection, LeanCollection) == (path == "lean")
        made.append(Workload(collection, path))
    yield made
    for deployment in deployments:
        await deployment.close()


async def all_members_are_well(replica_set: ReplicaSet, *, equal: bool = False) -> None:
    """Waits until each is primary or secondary; and with `equal`, has all that the others have."""
    async with AsyncMongoClient[Document](replica_set.uri) as client, asyncio.timeout(30):
        states, positions = {"unknown"}, {"unknown", "other"}
        while not states <= {"PRIMARY", "SECONDARY"} or (equal and len(positions) > 1):
            status = await client.admin.command("replSetGetStatus")
            states = {member["stateStr"] for member in status["members"]}
            positions = {str(member["optime"]) for member in status["members"]}


async def test_a_member_that_was_away_is_known_again_when_it_is_elected(
    replica_set: ReplicaSet, workloads: list[Workload]
) -> None:
    """F1: a secondary is killed and comes back, then the primary hangs, and none but that secondary can be elected."""
    primary = await replica_set.wait_primary()
    away, other = [member for member in range(3) if member != primary]
    replica_set.kill(away)
    for workload in workloads:
        await workload.start()
        await workload.calls(50)
    await replica_set.restart(away)
    for workload in workloads:
        await workload.stop()
    await all_members_are_well(replica_set, equal=True)
    await replica_set.hold_back(other, 60)

    replica_set.freeze(primary)
    began = time.monotonic()
    await asyncio.gather(*(workload.read() for workload in workloads))
    assert time.monotonic() - began <= _LONGEST_STALL_SECONDS
    for workload in workloads:
        assert {type(error) for error in workload.tally.errors} <= {Unavailable}
        assert workload.tally.longest <= _LONGEST_STALL_SECONDS
        await workload.assert_kept()
    replica_set.thaw(primary)


async def test_no_write_is_lost_or_doubled_when_the_primary_fails(
    replica_set: ReplicaSet, workloads: list[Workload]
) -> None:
    memory = psutil.Process().memory_info().rss
    for workload in workloads:
        await workload.start()
        await workload.calls(100)

    killed = await replica_set.wait_primary()
    replica_set.kill(killed)
    for workload in workloads:
        await workload.calls(100)
    await replica_set.restart(killed)
    await all_members_are_well(replica_set)

    frozen = await replica_set.wait_primary()
    replica_set.freeze(frozen)
    for workload in workloads:
        await workload.calls(100)
    replica_set.thaw(frozen)
    await all_members_are_well(replica_set)
    errors_of_the_losses = [len(workload.tally.errors) for workload in workloads]

    for _ in range(_STEP_DOWNS):
        await replica_set.step_down()
        for workload in workloads:
            await workload.calls(100)

    for workload, before in zip(workloads, errors_of_the_losses, strict=True):
        tally = await workload.stop()
        unexpected = [error.__cause__ for error in tally.errors if type(error) is not Unavailable]
        assert unexpected == []
        assert tally.longest <= _LONGEST_STALL_SECONDS
        # At most one call of a thousand may fail by a step-down; under 1 000 calls that is one.
        assert len(tally.errors) - before <= max(1, tally.calls // 1000)
        await workload.assert_kept()
    assert psutil.Process().memory_info().rss - memory <= _MOST_MEMORY_BYTES
