"""Loads: who waits for whom, and what is believed (TENANCY.md CA-2)."""

from __future__ import annotations

import asyncio

import pytest

from hooks.errors import NotFound, Unavailable
from services.control.loads import Loads


class Source:
    """What is read: each reading waits for the test to answer it."""

    def __init__(self) -> None:
        self.readings: list[asyncio.Future[int]] = []
        self.settled: list[int] = []
        self._begun = asyncio.Event()

    async def read(self, key: str) -> int:
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.readings.append(answer)
        self._begun.set()
        return await answer

    async def settle(self, key: str, value: int) -> int:
        self.settled.append(value)
        return value

    async def begun(self, count: int) -> None:
        """Waits until so many readings have begun."""
        async with asyncio.timeout(5):
            while len(self.readings) < count:
                self._begun.clear()
                await self._begun.wait()


@pytest.fixture
async def source() -> Source:
    return Source()


async def test_a_thousand_readers_cause_one_reading(source: Source) -> None:
    """CA-2, CA-6."""
    loads = Loads(source.read, source.settle)
    readers = [asyncio.create_task(loads.get("a")) for _ in range(1_000)]
    await source.begun(1)
    source.readings[0].set_result(7)

    assert await asyncio.gather(*readers) == [7] * 1_000
    assert len(source.readings) == 1


async def test_a_reader_who_gives_up_takes_nothing_from_the_others(source: Source) -> None:
    """CA-2: the reading is shielded from a waiter's cancellation."""
    loads = Loads(source.read, source.settle)
    first, second = asyncio.create_task(loads.get("a")), asyncio.create_task(loads.get("a"))
    await source.begun(1)
    first.cancel()
    await asyncio.wait([first])
    source.readings[0].set_result(7)

    assert await second == 7


async def test_a_failure_reaches_all_who_wait_and_is_soon_forgotten(source: Source) -> None:
    """CA-2, CA-6: an exception does not poison."""
    loads = Loads(source.read, source.settle, fault=0.01)
    readers = [asyncio.create_task(loads.get("a")) for _ in range(3)]
    await source.begun(1)
    source.readings[0].set_exception(NotFound("private"))
    answers = await asyncio.gather(*readers, return_exceptions=True)
    assert [type(answer) for answer in answers] == [Unavailable] * 3
    assert len({id(answer) for answer in answers}) == 3

    with pytest.raises(Unavailable):
        await loads.get("a")
    assert len(source.readings) == 1
    async with asyncio.timeout(5):
        again: asyncio.Task[int] | None = None
        while len(source.readings) == 1:
            again = asyncio.create_task(loads.get("a"))
            await asyncio.wait([again], timeout=0.005)
    assert again is not None
    source.readings[1].set_result(8)
    assert await again == 8


async def test_what_was_overtaken_is_read_again_and_never_believed(source: Source) -> None:
    """CA-2: a reading that began before an invalidation must not overwrite."""
    loads = Loads(source.read, source.settle)
    reader = asyncio.create_task(loads.get("a"))
    await source.begun(1)
    assert loads.overtake("a")
    source.readings[0].set_result(1)
    await source.begun(2)
    source.readings[1].set_result(2)

    assert await reader == 2
    assert source.settled == [2]
    assert not loads.overtake("a")


async def test_what_changes_without_an_end_is_given_up(source: Source) -> None:
    """CA-2: bounded."""
    loads = Loads(source.read, source.settle)
    reader = asyncio.create_task(loads.get("a"))
    for number in range(1, 6):
        await source.begun(number)
        loads.overtake_all()
        source.readings[-1].set_result(number)

    with pytest.raises(Unavailable, match="again and again"):
        await reader
    assert source.settled == []


async def test_readings_are_bounded(source: Source) -> None:
    """CA-2: a flood of names does not become a flood of questions."""
    loads = Loads(source.read, source.settle, most=2)
    readers = [asyncio.create_task(loads.get(key)) for key in "ab"]
    await source.begun(2)
    with pytest.raises(Unavailable, match="at once"):
        await loads.get("c")
    for reading in source.readings:
        reading.set_result(0)
    await asyncio.gather(*readers)
    third = asyncio.create_task(loads.get("c"))
    await source.begun(3)
    await loads.stop()
    with pytest.raises(Unavailable, match="stopping"):
        await third
