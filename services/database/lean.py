"""A store's collection by the lean path: one message out, one reply back, no layers between.

What the path does not do (many batches, very large inserts, transactions) goes to PyMongo, and so does everything once the
server has given a reply that the path does not know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import bson
from pymongo.errors import PyMongoError, WriteError

from hooks.errors import BadRequest, Unavailable
from services.database.driver import DriverCollection
from services.database.faults import DRIVER_ERRORS, from_code, from_driver
from services.database.group_commit import GroupCommit
from services.database.op_msg import CODEC, SurprisingReply
from services.database.runner import Repeat, Runner
from services.database.transaction import current_session
from services.store import Document, Filter, Namespace, Sort

# A find without limit reads so many at once; more of them are read by PyMongo, batch by batch.
_BATCH = 1000
_INSERT_DOCUMENTS = 1000
_INSERT_BYTES = 16 * 1024 * 1024


class LeanCollection:
    """Implements `services.store.Collection`; `driver` is the same collection through PyMongo."""

    __slots__ = ("_database", "_driver", "_group_commit", "_name", "_namespace", "_runner")

    def __init__(
        self, namespace: Namespace, runner: Runner, group_commit: GroupCommit, driver: DriverCollection
    ) -> None:
        self._namespace = namespace
        self._database = namespace.database
        self._name = namespace.collection
        self._runner = runner
        self._group_commit = group_commit
        self._driver = driver

    @property
    def namespace(self) -> Namespace:
        return self._namespace

    async def find(
        self,
        filter: Filter,
        *,
        projection: Mapping[str, int] | None = None,
        sort: Sort = (),
        skip: int = 0,
        limit: int = 0,
    ) -> list[Document]:
        if self._takes_detour():
            return await self._driver.find(filter, projection=projection, sort=sort, skip=skip, limit=limit)
        command: dict[str, Any] = {
            "find": self._name,
            "filter": filter,
            "batchSize": limit or _BATCH,
            "$db": self._database,
        }
        if projection:
            command["projection"] = projection
        if sort:
            command["sort"] = dict(sort)
        if skip:
            command["skip"] = skip
        if limit:
            command["limit"] = limit
        try:
            cursor = (await self._runner.run(command, Repeat.READ))["cursor"]
        except SurprisingReply:
            return await self._driver.find(filter, projection=projection, sort=sort, skip=skip, limit=limit)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        if cursor["id"]:
            await self._kill(cursor["id"])
            return await self._driver.find(filter, projection=projection, sort=sort, skip=skip, limit=limit)
        documents: list[Document] = cursor["firstBatch"]
        return documents

    async def count(self, filter: Filter) -> int:
        if self._takes_detour():
            return await self._driver.count(filter)
        try:
            reply = await self._runner.run({"count": self._name, "query": filter, "$db": self._database}, Repeat.READ)
        except SurprisingReply:
            return await self._driver.count(filter)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        return int(reply["n"])

    async def insert(self, documents: Sequence[Document]) -> None:
        if not documents:
            return
        if self._takes_detour():
            await self._driver.insert(documents)
            return
        try:
            encoded = [(document, bson.encode(document, codec_options=CODEC)) for document in documents]
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        if len(documents) > _INSERT_DOCUMENTS or sum(len(document) for _, document in encoded) > _INSERT_BYTES:
            await self._driver.insert(documents)
        elif len(documents) == 1:
            await self._group_commit.insert(self._namespace, encoded[0])
        else:
            await self._write({"insert": self._name, "ordered": True, "$db": self._database}, Repeat.WRITE, encoded)

    async def find_one_and_update(self, filter: Filter, update: Mapping[str, Any]) -> Document | None:
        if self._takes_detour():
            return await self._driver.find_one_and_update(filter, update)
        _demand_operators(update)
        return await self._find_and_modify({"query": filter, "update": update, "new": True})

    async def find_one_and_replace(self, filter: Filter, replacement: Document) -> Document | None:
        if self._takes_detour():
            return await self._driver.find_one_and_replace(filter, replacement)
        if next(iter(replacement), "").startswith("$"):
            raise BadRequest("A replacement has no update operators.")
        return await self._find_and_modify({"query": filter, "update": replacement, "new": True})

    async def find_one_and_delete(self, filter: Filter) -> Document | None:
        if self._takes_detour():
            return await self._driver.find_one_and_delete(filter)
        return await self._find_and_modify({"query": filter, "remove": True})

    async def update_many(self, filter: Filter, update: Mapping[str, Any]) -> int:
        if self._takes_detour():
            return await self._driver.update_many(filter, update)
        _demand_operators(update)
        updates = [{"q": filter, "u": update, "multi": True}]
        reply = await self._write({"update": self._name, "updates": updates, "$db": self._database}, Repeat.UNSENT)
        return int(reply["n"])

    async def delete_many(self, filter: Filter) -> int:
        if self._takes_detour():
            return await self._driver.delete_many(filter)
        deletes = [{"q": filter, "limit": 0}]
        reply = await self._write({"delete": self._name, "deletes": deletes, "$db": self._database}, Repeat.UNSENT)
        return int(reply["n"])

    def _takes_detour(self) -> bool:
        """Whether PyMongo does the work: inside of its transactions, and since the server gave a reply that is not known."""
        return self._runner.surprise is not None or current_session(self._runner.client) is not None

    async def _find_and_modify(self, fields: Mapping[str, Any]) -> Document | None:
        reply = await self._write({"findAndModify": self._name, **fields, "$db": self._database}, Repeat.WRITE)
        document: Document | None = reply["value"]
        return document

    async def _write(
        self, command: dict[str, Any], repeat: Repeat, documents: Sequence[tuple[Document, bytes]] = ()
    ) -> Document:
        try:
            reply = await self._runner.run(command, repeat, documents)
        except SurprisingReply as error:
            raise Unavailable("The database is not available at the moment: try again.") from error
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        for failure in reply.get("writeErrors", ()):
            raise from_code(failure["code"], failure) from WriteError(failure["errmsg"], failure["code"], failure)
        return reply

    async def _kill(self, cursor: int) -> None:
        try:
            await self._runner.client[self._database].command({"killCursors": self._name, "cursors": [cursor]})
        except PyMongoError:
            # The server ends an unused cursor by itself.
            return


def _demand_operators(update: Mapping[str, Any]) -> None:
    if not update or not all(operator.startswith("$") for operator in update):
        raise BadRequest("An update has update operators only.")
