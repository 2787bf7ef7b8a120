"""A gate is fair and exact; the wheel turns for those who are due."""

from __future__ import annotations

import asyncio

import pytest

from hooks.errors import TooManyRequests
from server.engine import Gate
from server.engine.wheel import STEP, Wheel


def test_places_are_counted_and_given_in_order() -> None:
    gate = Gate(2)
    assert [gate.enter() for _ in range(3)] == [True, True, False]
    turns: list[str] = []

    def taker(name: str, *, takes: bool) -> None:
        def proceed() -> bool:
            turns.append(name)
            return takes

        gate.park(proceed)

    taker("gone", takes=False)
    taker("first", takes=True)
    taker("second", takes=True)
    gate.leave()
    assert turns == ["gone", "first"]
    assert gate.running == 2
    assert not gate.enter()
    gate.leave()
    assert turns[-1] == "second"
    gate.leave()
    gate.leave()
    assert gate.running == 0
    assert gate.enter()


async def test_a_bounded_number_waits() -> None:
    gate = Gate(1, waiting=1)
    order: list[str] = []

    async def work(name: str) -> None:
        async with gate:
            order.append(name)
            await asyncio.sleep(0)

    await gate.__aenter__()
    waiting = asyncio.create_task(work("waited"))
    await asyncio.sleep(0)
    with pytest.raises(TooManyRequests):
        await work("refused")
    await gate.__aexit__(None, None, None)
    await waiting
    assert order == ["waited"]
    assert gate.running == 0


@pytest.mark.parametrize("served", [False, True])
async def test_a_place_is_not_lost_when_the_waiter_is_cancelled(served: bool) -> None:
    gate = Gate(1)
    await gate.__aenter__()
    task = asyncio.create_task(gate.__aenter__())
    await asyncio.sleep(0)
    if served:
        gate.leave()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    if not served:
        gate.leave()
    assert gate.running == 0
    assert gate.enter()


class Due:
    def __init__(self, *again: float) -> None:
        self.slot = 0
        self.again = [*again]
        self.times: list[float] = []
        self.done = asyncio.Event()

    def review(self, now: float) -> float:
        self.times.append(now)
        if self.again:
            return self.again.pop(0)
        self.done.set()
        return 0


async def test_members_are_reviewed_when_due_and_not_before() -> None:
    wheel = Wheel()
    start = asyncio.get_running_loop().time()
    soon, later, moved, removed = Due(0.3), Due(), Due(), Due()
    wheel.put(later, 0.6)
    wheel.put(soon, 0.1)
    wheel.put(moved, 60)
    wheel.put(moved, 0.1)
    wheel.put(removed, 0.1)
    wheel.remove(removed)
    async with asyncio.timeout(5):
        await asyncio.gather(soon.done.wait(), later.done.wait(), moved.done.wait())
    assert [0.1 <= time - start <= 0.1 + 3 * STEP for time in moved.times] == [True]
    assert 0.6 <= later.times[0] - start <= 0.6 + 3 * STEP
    assert len(soon.times) == 2
    assert removed.times == []
