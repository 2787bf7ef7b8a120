"""Makes a real server fail at a given point, so many times."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pymongo import AsyncMongoClient

from tests.support.mongod import ReplicaSet


@asynccontextmanager
async def failing(
    replica_set: ReplicaSet, times: int, data: dict[str, Any], point: str = "failCommand"
) -> AsyncIterator[None]:
    """The server fails so many times as `data` says, for clients named `roost` where the point can tell them apart."""
    if point == "failCommand":
        data = {"appName": "roost", **data}
    # A client of its own: the one under test may have lost its primary.
    async with AsyncMongoClient[dict[str, Any]](replica_set.uri) as client:
        await client.admin.command({"configureFailPoint": point, "mode": {"times": times}, "data": data})
        try:
            yield
        finally:
            await client.admin.command({"configureFailPoint": point, "mode": "off"})
