"""Tasks that go on in the background, and how they end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, TypeVar

import structlog

log = structlog.get_logger()

T = TypeVar("T")


def detached(work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
    """A task that goes on beyond the call which has begun it, and carries nothing of it: no tenant either."""
    return asyncio.create_task(work, name=name, context=Context())


async def end(task: asyncio.Task[Any]) -> None:
    """Cancels a task and returns when it has ended: the driver can swallow a cancellation, so one alone may not do."""
    while not task.done():
        task.cancel()
        await asyncio.wait((task,), timeout=0.1)
    if not task.cancelled() and task.exception() is not None:
        log.warning("a task ended badly", task=task.get_name(), error=type(task.exception()).__name__)
