"""The bus over MongoDB: events pass through a collection, whose change stream every node follows. No further infrastructure."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from pymongo import IndexModel
from pymongo.errors import BulkWriteError, OperationFailure

from services.bus.envelope import Envelope, Hear, unseal
from services.bus.outgoing import Outgoing, Sealed
from services.control.nodes import Nodes
from services.control.tenants import control_database
from services.database.deployment import Deployment
from services.database.faults import DRIVER_ERRORS, from_driver
from services.database.schema import ensure_indexes
from services.tasks import end

log = structlog.get_logger()

COLLECTION = "bus"
KEPT = timedelta(seconds=60)
"""For so long a node that was away can catch up."""


_DUPLICATE = 11000
_LOST = frozenset({260, 280, 286, 10334})
"""What the server says of a place in the stream that it does not have any more, or whose event is too large to be told."""


class MongoBus:
    """Implements `services.bus.envelope.Bus`. A node alone sends nothing: events cost it nothing."""

    def __init__(self, deployment: Deployment, nodes: Nodes, *, database: str) -> None:
        self._deployment = deployment
        self._nodes = nodes
        self._control = control_database(database)
        self._outgoing = Outgoing(self._send)
        self._task: asyncio.Task[None] | None = None
        self._following = asyncio.Event()
        self.missed = 0
        """How often this node could not go on where it was, and may have missed events."""

    async def _prepare(self) -> None:
        """Creates the collection, and the index by which events are forgotten."""
        await ensure_indexes(self._events, IndexModel([("at", 1)], name="past", expireAfterSeconds=KEPT.seconds))

    @property
    def is_shared(self) -> bool:
        return bool(self._nodes.peers)

    def post(self, envelope: Envelope) -> None:
        if self.is_shared:
            self._outgoing.add(envelope)

    async def start(self, hear: Hear) -> None:
        """As of any bus.

        Raises:
            FeathersError: the database cannot be asked.
        """
        await self._prepare()
        self._outgoing.start()
        self._task = asyncio.create_task(self._follow(hear), name="bus stream")
        waiting = asyncio.create_task(self._following.wait())
        await asyncio.wait((waiting, self._task), return_when=asyncio.FIRST_COMPLETED, timeout=10)
        waiting.cancel()
        # First the stream, then the introduction: what others send from now on is heard.
        await self._nodes.introduce()

    async def stop(self) -> None:
        await self._outgoing.stop()
        if self._task is not None:
            await end(self._task)

    async def _send(self, events: Sequence[Sealed]) -> None:
        now = datetime.now(UTC)
        same = {"at": now, "node": self._nodes.id}
        batch = [{"_id": event.id, "app_id": event.app_id, "body": event.body, **same} for event in events]
        try:
            await self._events.insert_many(batch, ordered=True)
        except BulkWriteError as error:
            # What has arrived at an earlier attempt is there already; what comes after it is sent again. Without such an
            # error no majority has confirmed any of it.
            failures = error.details.get("writeErrors", ())
            if not failures or any(failure["code"] != _DUPLICATE for failure in failures):
                raise from_driver(error) from error
            arrived = failures[0]["index"]
            if arrived + 1 < len(events):
                await self._send(events[arrived + 1 :])
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    async def _follow(self, hear: Hear) -> None:
        pipeline = [
            {"$match": {"operationType": "insert", "fullDocument.node": {"$ne": self._nodes.id}}},
            {"$project": {"_id": 1, "fullDocument.body": 1, "operationType": 1}},
        ]
        resume: Mapping[str, Any] | None = None
        while True:
            try:
                async with await self._events.watch(pipeline, resume_after=resume, max_await_time_ms=1000) as stream:
                    self._following.set()
                    while stream.alive:
                        change = await stream.try_next()
                        resume = stream.resume_token
                        if change is not None:
                            await _tell(hear, change)
            except DRIVER_ERRORS as error:
                log.warning("bus: events of other nodes are not heard", error=type(error).__name__)
                if isinstance(error, OperationFailure) and error.code in _LOST:
                    resume = None
                    self.missed += 1
                    log.error("bus: events of other nodes may have been missed")  # noqa: TRY400
            await asyncio.sleep(0.2)

    @property
    def _events(self) -> Any:
        return self._deployment.client[self._control][COLLECTION]


async def _tell(hear: Hear, change: Mapping[str, Any]) -> None:
    try:
        body = change["fullDocument"]["body"]
        if not isinstance(body, bytes):
            raise TypeError("that is no event")
        await hear(unseal(body))
    except Exception as error:
        # One event that cannot be delivered must not end the stream.
        log.error("bus: an event was not delivered", error=type(error).__name__)  # noqa: TRY400
