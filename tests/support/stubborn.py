"""A plug-in that has begun something and never ends it."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from services.application import Application

_tasks: list[asyncio.Task[None]] = []


def configure(app: Application) -> None:
    """Begins it."""
    _tasks.append(asyncio.create_task(_go_on(), name="stubborn"))


async def _go_on() -> None:
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
