"""What goes on in the background ends although the driver swallows a cancellation."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable

import pytest

from server.telemetry.metrics import Metrics
from services.audit import Audit
from services.control.nodes import Nodes
from services.tasks import end


async def test_a_task_that_swallows_a_cancellation_ends() -> None:
    swallowed = asyncio.Event()

    async def work() -> None:
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if swallowed.is_set():
                    raise
                swallowed.set()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await end(task)
    assert swallowed.is_set()
    assert task.cancelled()


@pytest.mark.parametrize("stops", [Nodes.leave, Metrics.stop, Audit.stop])
def test_whoever_asks_the_database_in_the_background_is_ended_so(stops: Callable[..., object]) -> None:
    """One cancellation alone has left servers that never stopped."""
    source = inspect.getsource(stops)
    assert "end" in source
    assert ".cancel()" not in source
