"""Loads: one reading of the database per key at a time, however many wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog

from hooks.errors import FeathersError, Unavailable
from services.tasks import detached, end

log = structlog.get_logger()

FAULT = 1.0
"""Seconds for which a failure answers further readers, so that a database in trouble is not asked in vain."""
MOST = 1_000
"""Readings that run, or have lately failed; further ones are refused."""
TRIES = 5
"""Times that a reading is begun anew because it was overtaken by a change."""

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


@dataclass(slots=True, eq=False)
class _Load(Generic[_Value]):
    task: asyncio.Task[_Value]
    is_overtaken: bool = False
    """What is being read was changed since the reading began."""


class Loads(Generic[_Key, _Value]):
    """Reads values by key. A reader who gives up takes nothing from the others."""

    def __init__(
        self,
        read: Callable[[_Key], Awaitable[_Value]],
        settle: Callable[[_Key, _Value], Awaitable[_Value]],
        *,
        most: int = MOST,
        fault: float = FAULT,
    ) -> None:
        """`settle` takes note of what was read, and answers what is to be believed. What was overtaken never gets there."""
        self._read = read
        self._settle = settle
        self._most = most
        self._fault = fault
        self._loads: dict[_Key, _Load[_Value]] = {}

    async def get(self, key: _Key) -> _Value:
        """The value, by the reading that runs or a new one.

        Raises:
            Unavailable: the database cannot be asked, or too many readings run.
        """
        load = self.start(key)
        await asyncio.wait([load.task])
        if load.task.cancelled():
            raise Unavailable("The server is stopping: try again")
        error = load.task.exception()
        if error is not None:
            # Raised anew for each who waits: one exception in many hands would gather all their tracebacks.
            raise Unavailable(error.message if isinstance(error, Unavailable) else None) from error
        return load.task.result()

    def start(self, key: _Key) -> _Load[_Value]:
        """Begins a reading, if none runs and none has just failed.

        Raises:
            Unavailable: too many run.
        """
        load = self._loads.get(key)
        if load is None:
            if len(self._loads) >= self._most:
                raise Unavailable("Too many apps are looked up at once: try again")
            load = self._loads[key] = _Load(detached(self._run(key), "catalogue load"))
            load.task.add_done_callback(lambda _: self._ended(key))
        return load

    def overtake(self, key: _Key) -> bool:
        """What the key stands for was changed: a reading that runs reads again. Answers whether there is one."""
        load = self._loads.get(key)
        if load is None or load.task.done():
            self._loads.pop(key, None)
            return False
        load.is_overtaken = True
        return True

    def overtake_all(self, chosen: Callable[[_Key], bool] = lambda key: True) -> None:
        """As `overtake`, for all that are chosen."""
        for key in [*self._loads]:
            if chosen(key):
                self.overtake(key)

    async def stop(self) -> None:
        """Ends what runs."""
        for load in [*self._loads.values()]:
            await end(load.task)

    async def _run(self, key: _Key) -> _Value:
        # The task's first step comes after `start` has kept it.
        load = self._loads[key]
        for _ in range(TRIES):
            load.is_overtaken = False
            value = await self._read(key)
            if not load.is_overtaken:
                value = await self._settle(key, value)
            if not load.is_overtaken:
                return value
        raise Unavailable("It is being changed again and again: try again")

    def _ended(self, key: _Key) -> None:
        load = self._loads[key]
        error = None if load.task.cancelled() else load.task.exception()
        if error is None:
            del self._loads[key]
            return
        if isinstance(error, FeathersError):
            log.warning("catalogue: not loaded", key=str(key), error=type(error).__name__)
        else:
            log.error("catalogue: not loaded", key=str(key), exc_info=error)
        asyncio.get_running_loop().call_later(self._fault, self._forget, key, load)

    def _forget(self, key: _Key, load: _Load[_Value]) -> None:
        if self._loads.get(key) is load:
            del self._loads[key]
