"""The gate for writes: RE and 8.2.11 step 5, as far as one process goes."""

from __future__ import annotations

import asyncio
import time

import pytest

from hooks.errors import Unavailable
from hooks.tenant import Placement, Tenant
from services.isolation import Isolation
from services.memory import MemoryStore
from services.placement.writes import Place, Writes

HERE, THERE = Placement(), Placement("database", "default", "t_acme_0a1b2c")
ACME = Tenant("acme", "Acme")


def moved(epoch: int, placement: Placement = HERE, *, frozen: bool = False) -> Place:
    return Place(placement, epoch, frozen)


async def test_while_an_app_is_frozen_its_records_are_read_and_not_written() -> None:
    writes = Writes()
    isolation = Isolation(MemoryStore(), writes=writes)
    notes = isolation.collection(ACME, "notes")
    await notes.insert([{"_id": "one", "n": 1}])
    writes.place("acme", moved(2, frozen=True))
    for collection in (notes, isolation.collection(ACME, "notes")):
        assert [record["n"] for record in await collection.find({})] == [1]
        for write in (
            collection.insert([{"n": 2}]),
            collection.find_one_and_update({}, {"$set": {"n": 2}}),
            collection.find_one_and_replace({}, {"n": 2}),
            collection.find_one_and_delete({}),
            collection.update_many({}, {"$set": {"n": 2}}),
            collection.delete_many({}),
        ):
            with pytest.raises(Unavailable) as refused:
                await write
            assert refused.value.data == {"reason": "TenantMigrating", "retry_after": 1}
    with pytest.raises(Unavailable):
        await isolation.transaction(ACME, lambda: notes.count({}))
    await isolation.collection(Tenant("globex", "Globex"), "notes").insert([{"n": 3}])
    writes.place("acme", moved(3))
    await notes.insert([{"n": 2}])


async def test_a_call_that_began_before_a_move_does_not_write_where_the_data_was() -> None:
    """8.2.11: a write that carries the old epoch is refused; a new look finds the new place, also by the old snapshot."""
    writes = Writes()
    isolation = Isolation(MemoryStore(), writes=writes)
    before = isolation.collection(ACME, "notes")
    writes.place("acme", moved(2, THERE))
    with pytest.raises(Unavailable):
        await before.insert([{"n": 1}])
    after = isolation.collection(ACME, "notes")
    assert after.namespace.database == THERE.database
    await after.insert([{"n": 1}])


async def test_what_is_older_than_what_is_known_changes_nothing() -> None:
    writes = Writes()
    assert writes.place("acme", moved(5, THERE))
    assert not writes.place("acme", moved(4, frozen=True))
    with writes.one("acme", THERE):
        pass


async def test_a_snapshot_that_is_frozen_is_believed_before_anything_was_heard() -> None:
    isolation = Isolation(MemoryStore())
    with pytest.raises(Unavailable):
        await isolation.collection(Tenant("acme", "Acme", frozen=True), "notes").insert([{"n": 1}])


async def test_writes_that_had_begun_are_waited_for() -> None:
    writes = Writes()
    first, second = writes.one("acme", HERE), writes.one("acme", HERE)
    first.__enter__()
    second.__enter__()
    writes.place("acme", moved(2, frozen=True))
    drained = asyncio.create_task(writes.drained("acme"))
    first.__exit__()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not drained.done()
    second.__exit__()
    await drained
    await writes.drained("acme")


async def test_a_process_that_has_lost_touch_writes_nothing() -> None:
    """The fence of a silent node: it refuses by itself when its lease is over."""
    writes = Writes()
    writes.hold(time.monotonic() + 60)
    with writes.one("acme", HERE):
        pass
    writes.hold(time.monotonic() - 0.001)
    with pytest.raises(Unavailable, match="lost touch"), writes.one("acme", HERE):
        pass
