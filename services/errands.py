"""Errands: work that goes on after the answer, bounded in number."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

log = structlog.get_logger()

Errand = Callable[[], Awaitable[float | None]]
"""Does its work; returns None, or the seconds after which it wants to be called again."""


class Errands:
    """Runs errands in the background. They are forgotten when the process ends."""

    def __init__(self, name: str, *, at_once: int, most: int) -> None:
        """`at_once` of them run at a time, `most` may be there at all; `name` is for the log."""
        self._name = name
        self._most = most
        self._turn = asyncio.Semaphore(at_once)
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, errand: Errand) -> bool:
        """Takes an errand on, and returns at once; False when there are too many."""
        if len(self._tasks) >= self._most:
            log.error("too many errands: one was not taken", errands=self._name)
            return False
        task = asyncio.create_task(self._run(errand), name=self._name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def settled(self) -> None:
        """Returns when no errand is left."""
        while self._tasks:
            await asyncio.wait([*self._tasks])

    async def stop(self, grace: float = 5.0) -> None:
        """Gives the errands `grace` seconds to end, and forgets the rest."""
        if self._tasks:
            await asyncio.wait([*self._tasks], timeout=grace)
        left = [*self._tasks]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        if left:
            log.warning("errands were not finished", errands=self._name, count=len(left))

    async def _run(self, errand: Errand) -> None:
        while True:
            async with self._turn:
                try:
                    again = await errand()
                except Exception as error:
                    # The type alone: messages and frames may hold what belongs in no log.
                    log.error("an errand failed", errands=self._name, error=type(error).__name__)  # noqa: TRY400
                    return
            if again is None:
                return
            await asyncio.sleep(again)
