"""Tails: who watches an app's calls at the moment, and what the nodes have seen; in the control plane's database, briefly."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import ObjectId
from pymongo import IndexModel

from services.control.tenants import control_database
from services.database.deployment import Deployment
from services.database.faults import DRIVER_ERRORS, from_driver
from services.database.schema import ensure_indexes
from services.store import Document

WATCHED = "tails"
LINES = "tail_lines"
KEPT = timedelta(minutes=2)
"""For so long a line is there to be read."""
MOST = 1_000
"""Lines that are read at a time."""


class Tails:
    """The meeting place of whoever watches and the nodes that are watched."""

    def __init__(self, deployment: Deployment, *, database: str) -> None:
        self._deployment = deployment
        self._control = control_database(database)

    async def prepare(self) -> None:
        """Creates the indexes by which both are forgotten soon."""
        await asyncio.gather(
            ensure_indexes(self._in(WATCHED), IndexModel([("until", 1)], name="over", expireAfterSeconds=0)),
            ensure_indexes(
                self._in(LINES),
                IndexModel([("app_id", 1), ("at", 1)], name="reading"),
                IndexModel([("at", 1)], name="past", expireAfterSeconds=KEPT.seconds),
            ),
        )

    async def watch(self, id: str, app_id: str, seconds: float) -> None:
        """Has an app watched for some seconds more; `id` names who watches."""
        until = datetime.now(UTC) + timedelta(seconds=seconds)
        try:
            await self._in(WATCHED).update_one({"_id": id}, {"$set": {"app_id": app_id, "until": until}}, upsert=True)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    async def end(self, id: str) -> None:
        """Ends a watch."""
        try:
            await self._in(WATCHED).delete_one({"_id": id})
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    async def watched(self) -> set[str]:
        """The apps that are watched."""
        try:
            chosen = {"until": {"$gt": datetime.now(UTC)}}
            return set(await self._in(WATCHED).distinct("app_id", chosen, maxTimeMS=2000))
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    async def write(self, lines: Sequence[Document]) -> None:
        """Keeps lines, each with its `app_id` and `at`."""
        try:
            await self._in(LINES).insert_many([{"_id": ObjectId(), **line} for line in lines])
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    async def read(self, app_id: str, since: datetime) -> list[Document]:
        """The lines of an app since a moment, in the order of their times."""
        try:
            chosen = {"app_id": app_id, "at": {"$gte": since}}
            cursor = self._in(LINES).find(chosen, sort=[("at", 1), ("_id", 1)], limit=MOST, max_time_ms=2000)
            lines: list[Document] = await cursor.to_list()
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        return lines

    def _in(self, collection: str) -> Any:
        return self._deployment.client[self._control][collection]
