"""The fourth guard: watches every command on tenant data and remembers those that are not tied to one tenant."""

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
        self.seen = 0

    def started(self, event: CommandStartedEvent) -> None:
        if event.database_name in _SYSTEM or event.database_name.endswith(CONTROL):
            return
        if event.command_name in _HARMLESS or event.command.get(event.command_name) == META:
            return
        self.seen += 1
        if not all(is_tied(part) for part in parts(event.command_name, event.command)):
            self.violations.append(f"{event.database_name}: {dict(event.command)!r}"[:500])

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Nothing to see."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Nothing to see."""


def parts(name: str, command: Mapping[str, Any]) -> list[Any]:
    """The filters and documents of a command, each of which must be tied to one tenant."""
    match name:
        case "find":
            return [command.get("filter")]
        case "count" | "findAndModify" | "distinct":
            found = [command.get("query")]
            update = command.get("update")
            if isinstance(update, Mapping) and not any(key.startswith("$") for key in update):
                found.append(update)
            return found
        case "aggregate":
            stages = command["pipeline"]
            if stages and "$changeStream" in stages[0]:
                # The server's own ear for changes, which are told by id.
                return []
            return [stages[0].get("$match") if stages else None]
        case "insert":
            return list(command["documents"])
        case "update":
            return [statement["q"] for statement in command["updates"]]
        case "delete":
            return [statement["q"] for statement in command["deletes"]]
    return [None]


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
