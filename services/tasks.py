"""Tasks that go on in the background, and how they end."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

log = structlog.get_logger()


async def end(task: asyncio.Task[Any]) -> None:
    """Cancels a task and returns when it has ended: the driver can swallow a cancellation, so one alone may not do."""
    while not task.done():
        task.cancel()
        await asyncio.wait((task,), timeout=0.1)
    if not task.cancelled() and task.exception() is not None:
        log.warning("a task ended badly", task=task.get_name(), error=type(task.exception()).__name__)
