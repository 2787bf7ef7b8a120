"""What was sent to the server, as PyMongo's listeners hear of it; and documents to send."""

from __future__ import annotations

from typing import Any

from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from services.store import Document


class Commands(CommandListener):
    """Keeps all events in order."""

    def __init__(self) -> None:
        self.all_started: list[CommandStartedEvent] = []
        self.all_succeeded: list[CommandSucceededEvent] = []
        self.all_failed: list[CommandFailedEvent] = []

    def started(self, event: CommandStartedEvent) -> None:
        self.all_started.append(event)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        self.all_succeeded.append(event)

    def failed(self, event: CommandFailedEvent) -> None:
        self.all_failed.append(event)

    def named(self, name: str) -> list[dict[str, Any]]:
        """The commands of that name, documents included."""
        return [dict(event.command) for event in self.all_started if event.command_name == name]


def key(id: Any, tenant: str = "acme") -> Document:
    """The filter for a document of a tenant."""
    return {"_id": {"a": tenant, "i": id}, "app_id": tenant}


def user(id: Any, **fields: Any) -> Document:
    """A document of a tenant."""
    return {**key(id), **fields}
