"""The tripwire: hears every command on tenants' data, and remembers those that are not tied to one tenant.

It guards nothing: it tells whether the guards hold. Every integration test runs under it, and `tenants adopt` ends with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

CONTROL = "_control"
META = "_meta"
"""What a tenant's own database says of itself; no record of anybody."""
_HARMLESS = frozenset(
    "hello ismaster ping create createIndexes collMod listCollections listIndexes endSessions getMore killCursors "
    "commitTransaction abortTransaction drop dropDatabase "
    "saslStart saslContinue usersInfo createUser updateUser dropAllUsersFromDatabase "
    "collStats dbStats dropIndexes explain".split()
)
_SYSTEM = frozenset({"admin", "local", "config"})


class Tripwire(CommandListener):
    """Commands on tenant data must carry an equality on `app_id`, or address a bound `_id`."""

    def __init__(self) -> None:
        self.violations: list[str] = []
        """What was not tied, by database, collection and command, without the values."""
        self.seen = 0
        """How many commands on tenants' data there were."""

    def reset(self) -> None:
        """Forgets what was heard so far."""
        self.violations.clear()
        self.seen = 0

    def started(self, event: CommandStartedEvent) -> None:
        if event.database_name in _SYSTEM or event.database_name.endswith(CONTROL):
            return
        if event.command_name in _HARMLESS or event.command.get(event.command_name) == META:
            return
        self.seen += 1
        if not all(is_tied(part) for part in parts(event.command_name, event.command)):
            self.violations.append(self.describe(event))

    def describe(self, event: CommandStartedEvent) -> str:
        """A command in a report."""
        return f"{event.database_name}.{event.command.get(event.command_name)}: {event.command_name}"

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Nothing to see."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Nothing to see."""


def parts(name: str, command: Mapping[str, Any]) -> list[Any]:
    """The filters and documents of a command, each of which must be tied to one tenant."""
    found: list[Any] = [None]
    match name:
        case "find":
            found = [command.get("filter")]
        case "count" | "findAndModify" | "distinct":
            found = [command.get("query")]
            update = command.get("update")
            if isinstance(update, Mapping) and not any(key.startswith("$") for key in update):
                found.append(update)
        case "aggregate":
            stages = command["pipeline"]
            # The server's own ear for changes is told by id.
            listens = stages and "$changeStream" in stages[0]
            found = [] if listens else [stages[0].get("$match") if stages else None]
        case "insert":
            found = list(command["documents"])
        case "update":
            found = [statement["q"] for statement in command["updates"]]
        case "delete":
            found = [statement["q"] for statement in command["deletes"]]
    return found


def is_tied(part: Any) -> bool:
    """Whether a filter or document can only be about one tenant."""
    if not isinstance(part, Mapping):
        return False
    if isinstance(part.get("app_id"), str):
        return True
    id = part.get("_id")
    if isinstance(id, Mapping) and list(id) == ["a", "i"]:
        return True
    return any(is_tied(branch) for branch in part.get("$and", ()))
