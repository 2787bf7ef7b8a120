"""Copying: a tenant's records at one place are made equal to those at another, byte for byte.

Everything here goes by *level*, not by event: what is written to the target is what the source has at that moment. So a
record may be copied twice, and a change heard of late, without harm; and whatever was interrupted begins anew.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import CodecOptions, MaxKey
from bson.raw_bson import RawBSONDocument
from pymongo import DeleteOne, ReplaceOne
from pymongo.errors import BulkWriteError

from hooks.errors import Conflict, Unavailable
from services.placement.shared import collections

BATCH = 200
"""Records that are read and written at a time."""
BATCH_BYTES = 16 * 1024 * 1024
"""Bytes of them, of which the last record may be beyond that."""
PATIENCE = 5.0
"""Seconds after which what was read is too old to be written: another process may have taken over in the meantime."""
MARKS = "_moves"
"""The collection of the source in which marks are made: see `services/control/moves/tail.py`."""
_DUPLICATE = 11000
_RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)

Id = bytes
"""A bound id as it is encoded."""


@dataclass(slots=True)
class Compared:
    """What a pass over one collection has found."""

    documents: int = 0
    mended: int = 0
    hash: str = ""
    """SHA-256 of all records at the source, in the order of their ids."""


@dataclass(slots=True)
class Pair:
    """A tenant's records at two places. Made for one move; `late` are those that could not be written yet."""

    app_id: str
    source: Any
    target: Any
    rate: int = 0
    """Records in a second, at most; 0 is as many as can be."""
    late: dict[str, dict[Id, None]] = field(default_factory=dict)

    async def names(self) -> list[str]:
        """All collections at either place, so that none can be forgotten."""
        found = {*await collections(self.source), *await collections(self.target)}
        return sorted(found - {MARKS})

    async def make_equal(self, name: str) -> Compared:
        """Goes through a collection in the order of ids, and mends whatever differs."""
        outcome = Compared()
        digest = hashlib.sha256()
        async for documents, others in self._side_by_side(name):
            began = time.monotonic()
            for document in documents.values():
                digest.update(document)
            differing = [*_differing(documents, others)]
            await self.copy(name, differing)
            outcome.documents += len(documents)
            outcome.mended += len(differing)
            if self.rate:
                await asyncio.sleep(max(0.0, len(documents) / self.rate - (time.monotonic() - began)))
        outcome.hash = digest.hexdigest()
        return outcome

    async def copy(self, name: str, ids: Iterable[Id]) -> None:
        """Makes these records at the target what they are at the source now. What a unique index refuses comes later."""
        todo: Sequence[Id] = [*ids]
        while todo:
            began = time.monotonic()
            some, documents, todo = await self._read(name, todo)
            refused = await self._write(name, some, documents, began)
            late = self.late.setdefault(name, {})
            for id in some:
                late.pop(id, None)
            late.update(dict.fromkeys(refused))

    async def settle(self) -> None:
        """Writes what a unique index has refused: first all of it goes, for two records may have swapped their values.

        Raises:
            Conflict: the target has an index that the records do not agree with.
        """
        for name, late in self.late.items():
            ids = [*late]
            if not ids:
                continue
            await self.target[name].bulk_write([DeleteOne(self._one(id)) for id in ids], ordered=False)
            late.clear()
            await self.copy(name, ids)
            if late:
                raise Conflict(f"'{name}' has {len(late)} records that a unique index of the target refuses")

    async def differences(self, name: str, ids: Sequence[Id] | None = None) -> int:
        """How many records differ, of these or of all. What is about to expire is nobody's difference."""
        soon = datetime.now(UTC) + timedelta(seconds=2)
        fields = await self._expiring(name)
        found = 0
        async for documents, others in self._side_by_side(name) if ids is None else self._these(name, ids):
            for id in _differing(documents, others):
                document = RawBSONDocument(documents.get(id) or others[id], _RAW)
                found += not any(_expires(document, field, seconds, soon) for field, seconds in fields.items())
        return found

    async def _read(self, name: str, ids: Sequence[Id]) -> tuple[Sequence[Id], dict[Id, bytes], Sequence[Id]]:
        """The first of some records: which were looked for, those that there are, and the ids that are left to look for."""
        some, rest = ids[:BATCH], ids[BATCH:]
        documents, is_all = await _find(self.source[name], self._chosen(some), most=BATCH_BYTES)
        if is_all:
            return some, documents, rest
        return [*documents], documents, [*(id for id in some if id not in documents), *rest]

    async def _write(self, name: str, ids: Sequence[Id], documents: dict[Id, bytes], began: float) -> list[Id]:
        """Those that a unique index has refused; the records were read from `began` on."""
        changes: list[Any] = [
            ReplaceOne(self._one(id), RawBSONDocument(documents[id], _RAW), upsert=True)
            if id in documents
            else DeleteOne(self._one(id))
            for id in ids
        ]
        if time.monotonic() - began > PATIENCE:
            raise Unavailable("The records to copy were read too long ago")
        try:
            await self.target[name].bulk_write(changes, ordered=False)
        except BulkWriteError as error:
            failures = error.details["writeErrors"] if error.details else []
            if not failures or any(failure["code"] != _DUPLICATE for failure in failures):
                raise
            return [ids[failure["index"]] for failure in failures]
        return []

    async def _side_by_side(self, name: str) -> AsyncIterator[tuple[dict[Id, bytes], dict[Id, bytes]]]:
        """The records at both places, a range of ids at a time."""
        least: Any = {"a": self.app_id}
        most: Any = {"a": self.app_id, "i": MaxKey()}
        while True:
            chosen = self._range(least, most)
            documents, is_all = await _find(self.source[name], chosen, limit=BATCH, most=BATCH_BYTES)
            is_last = is_all and len(documents) < BATCH
            reached = most if is_last else _decoded([*documents][-1])
            others, _ = await _find(self.target[name], self._range(least, reached, "$lt" if is_last else "$lte"))
            yield documents, others
            if is_last:
                return
            least = reached

    async def _these(self, name: str, ids: Sequence[Id]) -> AsyncIterator[tuple[dict[Id, bytes], dict[Id, bytes]]]:
        while ids:
            some, documents, ids = await self._read(name, ids)
            others, _ = await _find(self.target[name], self._chosen(some))
            yield documents, others

    def _chosen(self, ids: Sequence[Id]) -> dict[str, Any]:
        return {"app_id": self.app_id, "_id": {"$in": [*map(_decoded, ids)]}}

    def _range(self, least: Any, most: Any, below: str = "$lt") -> dict[str, Any]:
        return {"app_id": self.app_id, "_id": {"$gt": least, below: most}}

    def _one(self, id: Id) -> dict[str, Any]:
        return {"_id": _decoded(id), "app_id": self.app_id}

    async def _expiring(self, name: str) -> dict[str, int]:
        """The fields by which the database itself deletes records, with their seconds."""
        indexes = await self.source[name].index_information()
        return {
            index["key"][0][0]: int(index["expireAfterSeconds"])
            for index in indexes.values()
            if "expireAfterSeconds" in index
        }


def _differing(documents: dict[Id, bytes], others: dict[Id, bytes]) -> Iterable[Id]:
    for id, document in documents.items():
        if others.get(id) != document:
            yield id
    for id in others:
        if id not in documents:
            yield id


def _expires(document: RawBSONDocument, field: str, seconds: int, soon: datetime) -> bool:
    at = document.get(field)
    return isinstance(at, datetime) and at.replace(tzinfo=UTC) + timedelta(seconds=seconds) <= soon


def encoded(id: RawBSONDocument) -> Id:
    """A bound id that was read raw, as a key."""
    return bytes(id.raw)


def _decoded(id: Id) -> RawBSONDocument:
    return RawBSONDocument(id, _RAW)


async def _find(
    collection: Any, filter: dict[str, Any], *, limit: int = 0, most: float = math.inf
) -> tuple[dict[Id, bytes], bool]:
    """The records in the order of their ids, and whether that is all: reading ends with the one that passes `most` bytes."""
    found: dict[Id, bytes] = {}
    size = 0
    raw = collection.with_options(codec_options=_RAW)
    async with raw.find(filter, sort=[("_id", 1)], limit=limit, max_time_ms=2500) as cursor:
        async for document in cursor:
            found[encoded(document["_id"])] = bytes(document.raw)
            size += len(document.raw)
            if size > most:
                return found, False
    return found, True
