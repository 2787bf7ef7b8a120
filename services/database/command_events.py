"""Tells PyMongo's command listeners of commands that took the lean path, with PyMongo's own events."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from services.database.handover import Opened
from services.store import Document

_log = logging.getLogger(__name__)


class CommandEvents:
    """Falsy when nobody listens, so that the path skips it. A listener that raises is logged, as in PyMongo."""

    def __init__(self, listeners: Sequence[CommandListener]) -> None:
        self._listeners = tuple(listeners)

    def __bool__(self) -> bool:
        return bool(self._listeners)

    def started(self, command: Mapping[str, Any], request_id: int, opened: Opened) -> None:
        """A command is about to be sent; `command` is whole, documents included."""
        event = CommandStartedEvent(
            dict(command),
            command["$db"],
            request_id,
            opened.address,
            request_id,
            server_connection_id=opened.server_connection_id,
        )
        for listener in self._listeners:
            try:
                listener.started(event)
            except Exception:
                _log.exception("a command listener failed")

    def ended(
        self,
        command: Mapping[str, Any],
        request_id: int,
        opened: Opened,
        seconds: float,
        reply: Document,
        *,
        failed: bool,
    ) -> None:
        """The server replied, or the connection was lost."""
        kind = CommandFailedEvent if failed else CommandSucceededEvent
        event = kind(
            timedelta(seconds=seconds),
            reply,
            next(iter(command)),
            request_id,
            opened.address,
            request_id,
            server_connection_id=opened.server_connection_id,
            database_name=command["$db"],
        )
        for listener in self._listeners:
            try:
                if isinstance(event, CommandFailedEvent):
                    listener.failed(event)
                else:
                    listener.succeeded(event)
            except Exception:
                _log.exception("a command listener failed")
