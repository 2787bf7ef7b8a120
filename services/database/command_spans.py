"""Spans of database commands: each begins and ends with its command, whichever path that takes."""

from __future__ import annotations

from typing import Any, Protocol

from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

MOST = 10_000
"""Commands that can be under way; should more be, some have no end in the traces."""

_Event = CommandStartedEvent | CommandSucceededEvent | CommandFailedEvent
_Key = tuple[Any, int | None, int]


class Tracer(Protocol):
    """Begins and ends spans."""

    def begin(self, name: str, **attributes: str) -> Any:
        """A span inside of the current one."""
        ...

    def end(self, span: Any, failed: str | None) -> None:
        """Ends it; `failed` is the name of what went wrong."""
        ...


class CommandSpans(CommandListener):
    """Never looks at what a command holds."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._running: dict[_Key, Any] = {}

    def started(self, event: CommandStartedEvent) -> None:
        """A command is sent."""
        target = event.command.get(event.command_name)
        collection = target if isinstance(target, str) else ""
        if len(self._running) < MOST:
            self._running[_key(event)] = self._tracer.begin(
                f"{event.command_name} {collection}".strip(),
                **{"db.system": "mongodb", "db.namespace": event.database_name, "db.collection.name": collection},
            )

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """It was answered."""
        self._end(event, None)

    def failed(self, event: CommandFailedEvent) -> None:
        """It was refused, or the connection was lost."""
        self._end(event, "failed")

    def _end(self, event: CommandSucceededEvent | CommandFailedEvent, failed: str | None) -> None:
        span = self._running.pop(_key(event), None)
        if span is not None:
            self._tracer.end(span, failed)


def _key(event: _Event) -> _Key:
    # Clients of one server number their commands alike, each from 1: the connection says whose it is.
    return event.connection_id, event.server_connection_id, event.request_id
