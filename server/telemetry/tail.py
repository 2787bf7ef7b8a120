"""One app's calls and events, live, for whoever runs `python -m server tail APP`: with hook timings, and no values."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import structlog

from hooks.context import HookContext
from hooks.errors import FeathersError
from hooks.timing import Timing
from services.application import Event
from services.store import Document
from services.tasks import end

log = structlog.get_logger()

POLL = 1.0
"""Seconds until a new watch is noticed."""
FLUSH = 0.2
MOST = 200
"""Lines of one app and second; the rest is counted."""
DEEP = 3
WIDE = 20


class Tails(Protocol):
    """Where lines go."""

    async def watched(self) -> set[str]:
        """The apps that are watched."""
        ...

    async def write(self, lines: Sequence[Document]) -> None:
        """Keeps lines."""
        ...


class Tail:
    """Writes lines about the apps that are watched, and costs nothing for others."""

    def __init__(self, tails: Tails, *, node: str, poll: float = POLL) -> None:
        self._tails = tails
        self._node = node
        self._poll = poll
        self._waiting: list[Document] = []
        self._written: Counter[tuple[str, int]] = Counter()
        self._task: asyncio.Task[None] | None = None
        self.watched: frozenset[str] = frozenset()

    async def start(self) -> None:
        """Begins to look who is watched."""
        self._task = asyncio.create_task(self._run(), name="tail")

    async def stop(self) -> None:
        """Ends it."""
        if self._task is not None:
            await end(self._task)

    def call(
        self, context: HookContext, seconds: float, error: BaseException | None, timings: Sequence[Timing]
    ) -> None:
        """A call has ended."""
        params = context.params
        line: Document = {
            "kind": "call",
            "transport": params.provider,
            "method": context.method,
            "path": context.path,
            "ms": round(seconds * 1000, 3),
            "user": None if params.user is None else str(params.user["_id"]),
            "query": masked(params.query),
            "data": masked(context.data),
            "hooks": [(kind, name, round(taken * 1000, 3)) for kind, name, taken in timings],
        }
        if error is not None:
            # The kind alone: its text can hold what a client sent.
            code = error.code if isinstance(error, FeathersError) else 500
            line["error"] = f"{code} {type(error).__name__}"
        self._add(params.tenant.id, line)

    def event(self, event: Event, sockets: int) -> None:
        """An event has gone out."""
        if event.tenant.id in self.watched:
            name = f"{event.registration.path} {event.name}"
            self._add(
                event.tenant.id, {"kind": "event", "name": name, "sockets": sockets, "data": masked(event.record)}
            )

    def _add(self, app_id: str, line: Document) -> None:
        second = int(time.monotonic())
        self._written[app_id, second] += 1
        if self._written[app_id, second] <= MOST:
            self._waiting.append({"app_id": app_id, "at": datetime.now(UTC), "node": self._node, **line})

    async def _run(self) -> None:
        looked = 0.0
        while True:
            try:
                if time.monotonic() >= looked + self._poll:
                    self.watched = frozenset(await self._tails.watched())
                    looked = time.monotonic()
                await self._flush()
            except FeathersError as error:
                log.warning("tail: lines were lost", error=type(error).__name__)
            await asyncio.sleep(FLUSH if self.watched else self._poll)

    async def _flush(self) -> None:
        now = int(time.monotonic())
        for app_id, second in [key for key in self._written if key[1] < now]:
            left_out = self._written.pop((app_id, second)) - MOST
            if left_out > 0:
                at = datetime.now(UTC)
                self._waiting.append({"app_id": app_id, "at": at, "node": self._node, "kind": "gap", "lines": left_out})
        lines, self._waiting = self._waiting, []
        if lines:
            await self._tails.write(lines)


def masked(value: Any, depth: int = 0) -> Any:
    """The shape of a value: names of fields, and of what kind and length their values are."""
    if isinstance(value, Mapping):
        if depth >= DEEP:
            return "{...}"
        return {str(key)[:64]: masked(inner, depth + 1) for key, inner in [*value.items()][:WIDE]}
    if isinstance(value, (list, tuple)):
        return [masked(inner, depth + 1) for inner in value[:3]] + (["..."] if len(value) > 3 else [])
    if isinstance(value, str):
        return f"<text {len(value)}>"
    return "null" if value is None else f"<{type(value).__name__}>"
