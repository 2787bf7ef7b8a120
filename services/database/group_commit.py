"""Single inserts that wait while others are in flight in the same collection go as one unordered command.

Each document is what its own caller stamped and encoded, and each caller hears of its own document alone. Reads are
never joined, nor are writes of different collections.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from pymongo.errors import WriteError

from hooks.errors import BadRequest, FeathersError, Unavailable
from services.database.faults import DRIVER_ERRORS, from_code, from_driver
from services.database.op_msg import SurprisingReply
from services.database.runner import CALL_SECONDS, Repeat, Runner
from services.store import Document, Namespace

Encoded = tuple[Document, bytes]

# One command takes at most so many documents, and no further one once it has so many bytes.
_GROUP_DOCUMENTS: Final = 200
_GROUP_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Waiting:
    document: Encoded
    done: asyncio.Future[None]
    deadline: float


@dataclass(slots=True)
class _Lane:
    in_flight: int = 0
    waiting: deque[_Waiting] = field(default_factory=deque)


class GroupCommit:
    """Inserts single documents, in at most `width` commands per collection at a time."""

    def __init__(self, runner: Runner, *, width: int = 2) -> None:
        """`width` 0 joins nothing."""
        self._runner = runner
        self._width = width
        self._lanes: dict[Namespace, _Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def insert(self, namespace: Namespace, document: Encoded) -> None:
        """Inserts a document, alone or together with others.

        Raises:
            FeathersError: What went wrong with this document.
        """
        if not self._width:
            await self._insert_alone(namespace, document)
            return
        lane = self._lanes.get(namespace)
        if lane is None:
            lane = self._lanes[namespace] = _Lane()
        if lane.in_flight >= self._width:
            loop = asyncio.get_running_loop()
            waiting = _Waiting(document, loop.create_future(), loop.time() + CALL_SECONDS)
            lane.waiting.append(waiting)
            await waiting.done
            return
        lane.in_flight += 1
        try:
            await self._insert_alone(namespace, document)
        finally:
            self._next(namespace, lane)

    async def settle(self) -> None:
        """Waits until all groups in flight are answered."""
        await asyncio.gather(*self._tasks)

    async def _insert_alone(self, namespace: Namespace, document: Encoded) -> None:
        (failure,) = await self._insert_all(namespace, [document])
        if failure is not None:
            raise failure

    async def _insert_all(
        self, namespace: Namespace, documents: list[Encoded], deadline: float | None = None
    ) -> list[FeathersError | None]:
        command = {"insert": namespace.collection, "ordered": False, "$db": namespace.database}
        try:
            reply = await self._runner.run(command, Repeat.WRITE, documents, deadline)
        except SurprisingReply as error:
            return [
                _caused(Unavailable("The database is not available at the moment: try again."), error)
                for _ in documents
            ]
        except DRIVER_ERRORS as error:
            return [_caused(from_driver(error), error) for _ in documents]
        failures: list[FeathersError | None] = [None] * len(documents)
        for failure in reply.get("writeErrors", ()):
            code = failure["code"]
            failures[failure["index"]] = _caused(from_code(code, failure), WriteError(failure["errmsg"], code, failure))
        return failures

    def _next(self, namespace: Namespace, lane: _Lane) -> None:
        lane.in_flight -= 1
        if lane.waiting:
            lane.in_flight += 1
            task = asyncio.get_running_loop().create_task(self._insert_group(namespace, lane))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif not lane.in_flight:
            del self._lanes[namespace]

    async def _insert_group(self, namespace: Namespace, lane: _Lane) -> None:
        group = _take_group(lane)
        try:
            if not group:
                return
            deadline = group[0].deadline
            failures = await self._insert_all(namespace, [waiting.document for waiting in group], deadline)
            if len(group) > 1 and all(isinstance(failure, BadRequest) for failure in failures):
                # The server refused the whole command for one of its documents, before any was written.
                failures = [(await self._insert_all(namespace, [w.document], deadline))[0] for w in group]
            for waiting, failure in zip(group, failures, strict=True):
                if waiting.done.done():
                    continue
                if failure is None:
                    waiting.done.set_result(None)
                else:
                    waiting.done.set_exception(failure)
        finally:
            for waiting in group:
                waiting.done.cancel()
            self._next(namespace, lane)


def _take_group(lane: _Lane) -> list[_Waiting]:
    group: list[_Waiting] = []
    size = 0
    while lane.waiting and len(group) < _GROUP_DOCUMENTS and size < _GROUP_BYTES:
        waiting = lane.waiting.popleft()
        if not waiting.done.done():
            group.append(waiting)
            size += len(waiting.document[1])
    return group


def _caused(error: FeathersError, cause: BaseException) -> FeathersError:
    error.__cause__ = cause
    return error
