"""Documents that others publish, such as key sets: fetched when they are needed, one fetch at a time, and kept for a while."""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import structlog

from hooks.errors import FeathersError, Unavailable

Fetch = Callable[[str], Awaitable[bytes]]
"""Gets a document from an address that a tenant has named, with all the care which that needs."""

FRESH = 600.0
"""Seconds for which a fetched document is used."""
AGAIN = 30.0
"""Seconds that must pass before one that does not serve, or a failure, has it fetched again."""
STALE = 24 * 3600.0
"""Seconds for which a document that cannot be fetched again is still used."""
MOST = 1_000

log = structlog.get_logger()

_Document = TypeVar("_Document")


@dataclass(slots=True)
class _Fetched(Generic[_Document]):
    document: _Document
    fetched: float
    tried: float


class FetchedDocuments(Generic[_Document]):
    """JSON documents of one kind by address."""

    def __init__(
        self,
        fetch: Fetch,
        parse: Callable[[str, Any], _Document],
        *,
        kind: str,
        sorry: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`parse` makes a document of an address and its JSON, or raises ValueError. `kind` is for the log, and `sorry`
        what is said when one cannot be had."""
        self._fetch = fetch
        self._parse = parse
        self._kind = kind
        self._sorry = sorry
        self._clock = clock
        self._kept: OrderedDict[str, _Fetched[_Document]] = OrderedDict()
        self._failed: OrderedDict[str, float] = OrderedDict()
        self._loads: dict[str, asyncio.Task[None]] = {}

    async def find(self, url: str, serves: Callable[[_Document], bool] = lambda document: True) -> _Document:
        """The document at an address; one that does not serve is fetched again, but not too often.

        Raises:
            Unavailable: it cannot be had now.
        """
        now = self._clock()
        known = self._kept.get(url)
        if known is None:
            if now - self._failed.get(url, -AGAIN) < AGAIN:
                raise Unavailable(self._sorry)
            await self._load(url)
            known = self._kept.get(url)
        elif now - known.tried >= AGAIN and (now - known.fetched >= FRESH or not serves(known.document)):
            await self._load(url)
            known = self._kept.get(url)
        if known is None or now - known.fetched >= STALE:
            raise Unavailable(self._sorry)
        return known.document

    async def _load(self, url: str) -> None:
        load = self._loads.get(url)
        if load is None:
            load = self._loads[url] = asyncio.create_task(self._look_up(url))
            load.add_done_callback(lambda _: self._loads.pop(url, None))
        await asyncio.shield(load)

    async def _look_up(self, url: str) -> None:
        now = self._clock()
        try:
            document = self._parse(url, json.loads(await self._fetch(url)))
        except (FeathersError, OSError, ValueError, RecursionError, TimeoutError) as error:
            log.warning("document not fetched", kind=self._kind, url=url, error=type(error).__name__)
            if url in self._kept:
                self._kept[url].tried = now
            else:
                self._failed[url] = now
                _trim(self._failed)
            return
        self._kept[url] = _Fetched(document, now, now)
        self._kept.move_to_end(url)
        self._failed.pop(url, None)
        _trim(self._kept)


def _trim(kept: OrderedDict[str, Any]) -> None:
    while len(kept) > MOST:
        kept.popitem(last=False)
