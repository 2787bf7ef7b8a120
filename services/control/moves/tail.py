"""The tail: which of a tenant's records were changed at the source since a moment, until a mark that is made there.

Who has heard of a mark has heard of all that happened before it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import bson
from bson import CodecOptions
from bson.raw_bson import RawBSONDocument

from hooks.errors import Unavailable
from services.control.moves.copying import MARKS, Id, Pair, encoded

MOST = 100_000
"""Records of which it is remembered that they were touched; more of them make another pass necessary."""
PATIENCE = 60.0
"""Seconds in which a mark has to be heard of."""
AT_ONCE = 200
_RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)


@dataclass(slots=True)
class Caught:
    """What one catching-up has brought."""

    changes: int
    seconds: float


@dataclass(slots=True)
class Tail:
    """An open change stream over a tenant's records at the source of a pair."""

    pair: Pair
    stream: Any
    touched: dict[str, dict[Id, None]] = field(default_factory=dict)
    """Records that were changed since the last `forget`, by collection."""
    marks: int = 0

    @property
    def token(self) -> Mapping[str, Any] | None:
        """From where a tail can be opened again."""
        token = self.stream.resume_token
        return None if token is None else bson.decode(token.raw)

    @property
    def is_overfull(self) -> bool:
        """Whether more was touched than can be remembered."""
        return sum(map(len, self.touched.values())) > MOST

    def forget(self) -> None:
        """Remembers nothing of what was touched so far."""
        self.touched.clear()

    async def catch_up(self) -> Caught:
        """Brings to the target what has changed at the source until now.

        Raises:
            Unavailable: the changes cannot be heard.
        """
        began = time.monotonic()
        mark = await self._mark()
        changes = 0
        waiting: dict[str, dict[Id, None]] = {}
        while True:
            change = await self.stream.try_next()
            if change is None:
                if time.monotonic() - began > PATIENCE:
                    raise Unavailable("The changes of the app's records cannot be followed")
                continue
            name, id = change["ns"]["coll"], encoded(change["documentKey"]["_id"])
            if name == MARKS:
                if id == mark:
                    break
                continue
            changes += 1
            waiting.setdefault(name, {})[id] = None
            self.touched.setdefault(name, {})[id] = None
            if changes % AT_ONCE == 0:
                await self._bring(waiting)
        await self._bring(waiting)
        await self.pair.source[MARKS].delete_many({"app_id": self.pair.app_id})
        return Caught(changes, time.monotonic() - began)

    async def _bring(self, waiting: dict[str, dict[Id, None]]) -> None:
        for name, ids in waiting.items():
            await self.pair.copy(name, ids)
        waiting.clear()

    async def _mark(self) -> Id:
        self.marks += 1
        bound = {"a": self.pair.app_id, "i": f"{time.time_ns()}-{self.marks}"}
        await self.pair.source[MARKS].insert_one({"_id": bound, "app_id": self.pair.app_id})
        return bson.encode(bound)


@asynccontextmanager
async def open_tail(pair: Pair, token: Mapping[str, Any] | None) -> AsyncIterator[Tail]:
    """A tail from a token on, or from now on."""
    changed = {"$in": ["insert", "update", "replace", "delete"]}
    pipeline = [
        {"$match": {"operationType": changed, "documentKey._id.a": pair.app_id}},
        {"$project": {"_id": 1, "documentKey": 1, "operationType": 1, "ns": 1}},
    ]
    watched = pair.source.with_options(codec_options=_RAW)
    async with await watched.watch(pipeline, resume_after=token, max_await_time_ms=200, batch_size=AT_ONCE) as stream:
        yield Tail(pair, stream)
