"""Watch: follows the catalogue's collections by a change stream, and asks for changes every few seconds where there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from hooks.errors import FeathersError
from services.database.deployment import Deployment
from services.database.faults import DRIVER_ERRORS

log = structlog.get_logger()

POLL = 5.0
"""Seconds between two questions for changes while there is no change stream."""
PAUSE = 0.5
"""Seconds after which a stream that broke is opened again where it ended."""


@dataclass(frozen=True, slots=True)
class Told:
    """A document of the catalogue was changed or deleted."""

    collection: str
    id: Any


class Hearer(Protocol):
    """Who is told."""

    def lose(self) -> None:
        """The change stream broke: what is known may be out of date from now on."""
        ...

    def hear(self, told: Told) -> None:
        """A document was changed."""
        ...

    async def review(self) -> None:
        """Changes may have been missed: nothing that is known may be believed unseen."""
        ...

    async def poll(self) -> None:
        """There is no change stream at the moment: what has changed lately is to be asked for."""
        ...


class Watch:
    """Follows some collections of one database for as long as the process lives."""

    def __init__(self, deployment: Deployment, database: str, collections: tuple[str, ...]) -> None:
        self._deployment = deployment
        self._database = database
        self._pipeline: list[Mapping[str, Any]] = [
            {"$match": {"$or": [{"ns.coll": {"$in": [*collections]}}, {"operationType": "invalidate"}]}},
            {"$project": {"_id": 1, "documentKey": 1, "operationType": 1, "ns": 1}},
        ]
        self._resume: Mapping[str, Any] | None = None
        self.is_following = False
        """Whether a change stream tells of changes at this moment."""

    async def follow(self, hearer: Hearer) -> None:
        """Tells `hearer` of changes, for ever."""
        while True:
            try:
                await self._stream(hearer)
            except (*DRIVER_ERRORS, FeathersError) as error:
                log.warning("catalogue: no change stream, polling instead", error=type(error).__name__)
                if self.is_following:
                    # It broke: where it ended it can go on, if that is not too long ago.
                    self.is_following = False
                    hearer.lose()
                else:
                    # It could not even be opened; a token that is too old would fail for ever.
                    self._resume = None
                await _attempt(hearer.poll)
            finally:
                self.is_following = False
            await asyncio.sleep(PAUSE if self._resume is not None else POLL)

    async def _stream(self, hearer: Hearer) -> None:
        database = self._deployment.client[self._database]
        resumed = self._resume
        async with await database.watch(self._pipeline, resume_after=resumed, max_await_time_ms=1000) as stream:
            self.is_following = True
            if resumed is None:
                await hearer.review()
            while stream.alive:
                change = await stream.try_next()
                # Also without a change: the token of an idle stream moves on, and does not fall out of the oplog.
                self._resume = stream.resume_token
                if change is None:
                    continue
                if change["operationType"] in ("invalidate", "dropDatabase"):
                    break
                if "documentKey" in change:
                    hearer.hear(Told(change["ns"]["coll"], change["documentKey"]["_id"]))
        self._resume = None


async def _attempt(work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except FeathersError as error:
        log.warning("catalogue: not polled", error=type(error).__name__)
