"""What the tests of moves share: apps with records, and a move that is followed to its end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from server.main import Roost
from services.control.moves.moves import Destination
from services.control.operations import SUCCEEDED, Operation
from tests.support.placed import CLUSTERS, NAMED, raw

TO = {
    "shared": Destination("shared"),
    "database": Destination("database", NAMED),
    "cluster": Destination("cluster", credential="mongodb"),
}
MOVED = ("notes", "messages", "users")


@dataclass(frozen=True, slots=True)
class Way:
    """From which model an app is moved to which."""

    source: str
    target: str

    def __str__(self) -> str:
        return f"{self.source}_to_{self.target}"

    @property
    def arguments(self) -> tuple[str, ...]:
        """What `tenants promote` is told for it."""
        return "--to", self.target, "--cluster", TO[self.target].cluster


THERE = Way("shared", "database")
ON = Way("database", "cluster")
BACK = Way("cluster", "shared")
WAYS = (THERE, ON, BACK)
"""All the way round."""


async def ended(roost: Roost, operation: Operation) -> Operation:
    """The operation when it is over."""
    async with asyncio.timeout(60):
        while operation.is_active:
            await asyncio.wait([roost.backend.control.runner.work(operation.id)])
            found = await roost.backend.control.operations.get(operation.id)
            assert found is not None
            operation = found
            if operation.is_active:
                await asyncio.sleep(0.05)
    return operation


async def move(roost: Roost, app_id: str, model: str) -> Operation:
    """Moves an app's data."""
    await give_secret(roost, app_id, model)
    moved = await ended(roost, await roost.backend.moves.promote(app_id, TO[model]))
    assert moved.state == SUCCEEDED, moved.error
    # At the first attempt: what fails and is tried again would be hidden by the patience of operations.
    assert moved.attempts == 0, moved.steps
    return moved


async def give_secret(roost: Roost, app_id: str, model: str) -> None:
    """What an app has to have before it can be moved: where its own cluster is."""
    if model == "cluster":
        await roost.backend.secrets.put(app_id, TO[model].credential, CLUSTERS.uri("own"))


async def finalize(roost: Roost, app_id: str) -> Operation:
    """Deletes what a move has left."""
    done = await ended(roost, await roost.backend.moves.finalize(app_id, now=True))
    assert done.state == SUCCEEDED, done.error
    return done


async def contents(roost: Roost, app_id: str) -> dict[str, list[Any]]:
    """All records of an app where it is now, by collection; of the audit log, in which moves are noted, none."""
    async with raw(roost, app_id) as database:
        names = [
            name for name in await database.list_collection_names() if name not in ("_meta", "_moves", "audit_log")
        ]
        found = {
            name: [one async for one in database[name].find({"app_id": app_id}, sort=[("_id", 1)])] for name in names
        }
    return {name: records for name, records in found.items() if records}
