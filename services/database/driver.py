"""A store's collection through PyMongo: the plain path, and the one to fall back to."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import pymongo
from pymongo import ReturnDocument
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import NetworkTimeout

from services.database.faults import DRIVER_ERRORS, from_driver
from services.database.transaction import current_session
from services.database.turns import Turns
from services.store import Document, Filter, Namespace, Sort

_T = TypeVar("_T")

#: A whole call takes no longer: PyMongo asks again after a server has hung for as long as a reply may take.
CALL_SECONDS = 4.5
#: An insert is retried by PyMongo, once per new primary, for at most so long.
INSERT_SECONDS = 4.0


class DriverCollection:
    """Implements `services.store.Collection`; reads and changes of one document are retried once by PyMongo."""

    def __init__(self, collection: AsyncCollection[Document], *, max_time_ms: int, turns: Turns | None = None) -> None:
        """`collection` carries the client's codec, concerns and time bounds; without `turns` nothing waits for others."""
        self._collection = collection
        self._turns = turns
        self._max_time_ms = max_time_ms
        self._namespace = Namespace(collection.database.name, collection.name)

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
        cursor = self._collection.find(
            filter,
            projection,
            sort=list(sort) or None,
            skip=skip,
            limit=limit,
            batch_size=limit,
            max_time_ms=self._max_time_ms,
            session=self._session(),
        )
        return await self._run(cursor.to_list(), searches=True)

    async def count(self, filter: Filter) -> int:
        return await self._run(
            self._collection.count_documents(filter, session=self._session(), maxTimeMS=self._max_time_ms),
            searches=True,
        )

    async def insert(self, documents: Sequence[Document]) -> None:
        if not documents:
            return
        with pymongo.timeout(INSERT_SECONDS):
            if len(documents) == 1:
                await self._run(self._collection.insert_one(documents[0], session=self._session()))
            else:
                await self._run(self._collection.insert_many(documents, session=self._session()))

    async def find_one_and_update(self, filter: Filter, update: Mapping[str, Any]) -> Document | None:
        return await self._run(
            self._collection.find_one_and_update(
                filter,
                update,
                return_document=ReturnDocument.AFTER,
                session=self._session(),
                maxTimeMS=self._max_time_ms,
            )
        )

    async def find_one_and_replace(self, filter: Filter, replacement: Document) -> Document | None:
        return await self._run(
            self._collection.find_one_and_replace(
                filter,
                replacement,
                return_document=ReturnDocument.AFTER,
                session=self._session(),
                maxTimeMS=self._max_time_ms,
            )
        )

    async def find_one_and_delete(self, filter: Filter) -> Document | None:
        return await self._run(
            self._collection.find_one_and_delete(filter, session=self._session(), maxTimeMS=self._max_time_ms)
        )

    async def update_many(self, filter: Filter, update: Mapping[str, Any]) -> int:
        with pymongo.timeout(self._max_time_ms / 1000):
            return (
                await self._run(self._collection.update_many(filter, update, session=self._session()), searches=True)
            ).matched_count

    async def delete_many(self, filter: Filter) -> int:
        with pymongo.timeout(self._max_time_ms / 1000):
            return (
                await self._run(self._collection.delete_many(filter, session=self._session()), searches=True)
            ).deleted_count

    async def _run(self, call: Coroutine[Any, Any, _T], *, searches: bool = False) -> _T:
        # What belongs to a transaction does not wait: others may be waiting for the records that it holds.
        turns = self._turns if self._session() is None else None
        try:
            async with asyncio.timeout(CALL_SECONDS):
                if turns is None:
                    return await call
                async with turns.turn(searches=searches):
                    return await call
        except TimeoutError as error:
            raise from_driver(NetworkTimeout("no answer in time, though asked again")) from error
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        finally:
            call.close()

    def _session(self) -> AsyncClientSession | None:
        return current_session(self._collection.database.client)
