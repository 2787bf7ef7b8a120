"""Changes: what happens to the records on which logins rest, in whichever process, as the database's change stream tells it.

Only the ids come along: who hears of a change looks the record up, if it matters here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from hooks.errors import FeathersError, Unavailable
from services.database.deployment import Deployment
from services.database.faults import DRIVER_ERRORS
from services.tasks import end

log = structlog.get_logger()

POLL = 5.0
"""Seconds between two looks at everything while there is no change stream."""


@dataclass(frozen=True, slots=True)
class Change:
    """A record of a tenant was changed, or deleted."""

    collection: str
    app_id: str
    id: str
    is_deleted: bool


Listener = Callable[[Change], Awaitable[None]]
Review = Callable[[], Awaitable[None]]


class Changes:
    """Follows some collections of the tenants' database for as long as the process lives."""

    def __init__(
        self, deployment: Deployment, *, database: str, updates: tuple[str, ...], deletions: tuple[str, ...]
    ) -> None:
        """Of the collections in `updates` every change is told, of those in `deletions` that a record is gone."""
        self._deployment = deployment
        self._database = database
        self._pipeline: list[Mapping[str, Any]] = [
            {
                "$match": {
                    "$or": [
                        {"operationType": {"$in": ["update", "replace", "delete"]}, "ns.coll": {"$in": [*updates]}},
                        {"operationType": "delete", "ns.coll": {"$in": [*deletions]}},
                        {"operationType": "invalidate"},
                    ]
                }
            },
            {"$project": {"_id": 1, "documentKey": 1, "operationType": 1, "ns": 1}},
        ]
        self._task: asyncio.Task[None] | None = None

    async def start(self, listener: Listener, review: Review) -> None:
        """Begins to watch. `review` is called when changes may have been missed: then everything is to be looked at."""
        self._task = asyncio.create_task(self._follow(listener, review), name="changes")

    async def stop(self) -> None:
        """Ends the watch."""
        if self._task is not None:
            await end(self._task)

    async def _follow(self, listener: Listener, review: Review) -> None:
        resume: Mapping[str, Any] | None = None
        while True:
            try:
                database = self._deployment.client[self._database]
                async with await database.watch(self._pipeline, resume_after=resume, max_await_time_ms=1000) as stream:
                    if resume is None:
                        await _attempt(review)
                    async for change in stream:
                        if change["operationType"] == "invalidate":
                            resume = None
                            break
                        bound = change["documentKey"]["_id"]
                        told = Change(
                            change["ns"]["coll"], bound["a"], str(bound["i"]), change["operationType"] == "delete"
                        )
                        await _attempt(partial(listener, told))
                        resume = stream.resume_token
            except (*DRIVER_ERRORS, Unavailable) as error:
                # A token that cannot be resumed from any more would fail for ever.
                resume = None
                log.warning("changes: no change stream, looking at everything instead", error=type(error).__name__)
                await _attempt(review)
            await asyncio.sleep(POLL if resume is None else 0.1)


async def _attempt(work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except FeathersError as error:
        log.warning("changes: not followed", error=type(error).__name__)
    except Exception:
        log.exception("changes: not followed")
