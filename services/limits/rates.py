"""Rates: token buckets that all nodes share, of which each node takes a few tokens ahead.

A call that finds a token here costs no query. A node takes tokens for about a quarter of a second at a time, so that all nodes
together never let more through than the bucket has; what a node has taken and does not use is the error, at most that batch.
Where a bucket is empty, calls are refused here until it has a batch again, or half of its capacity if that is less: to ask for
each token alone would be a query for each call that is let through.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

import structlog

from hooks.errors import FeathersError, TooManyRequests
from hooks.tenant import Rate, Tenant
from services.cache import Shelves
from services.limits.store import RateStore

log = structlog.get_logger()

AHEAD = 0.25
"""Seconds for which a node takes tokens ahead."""
BLIND = 1.0
"""Seconds after which a database that could not be asked is asked again; until then each node lets its own share through."""
ONCE = "RateLimited"
"""The reason in the data of the error."""

Subject = tuple[str, str]
"""What is counted: `tenant`, `user` or `address`, and which one."""

_WHOLE: tuple[Subject, ...] = (("tenant", ""),)


@dataclass(slots=True)
class _Bucket:
    """A node's part of a bucket."""

    rate: Rate
    tokens: float = 0.0
    empty_until: float = 0.0
    blind_since: float | None = None
    """Since when the database has not answered."""
    fetch: asyncio.Task[None] | None = field(default=None, repr=False)


_Asked = tuple[_Bucket, str, str, int]
"""A bucket that is not known here yet, its kind and subject, and how many of its tokens are wanted."""


class Rates:
    """Admits calls of tenants whose limits name rates; for all others it does nothing."""

    def __init__(self, store: RateStore, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._buckets: Shelves[_Bucket] = Shelves()
        self._fetches: set[asyncio.Task[None]] = set()
        self.refused = 0

    def admit(self, tenant: Tenant, costs: Mapping[str, int], subjects: Collection[Subject]) -> Awaitable[None] | None:
        """Takes a call's tokens: `costs` says how many of each bucket of a kind, where there is one at least.

        Returns what has to be awaited when a bucket is not known here yet.

        Raises:
            TooManyRequests: one of them is empty, and none was taken; `data.retry_after` is the seconds until it has a token.
        """
        rates = tenant.limits.rates
        cold: list[_Asked] = []
        taken: list[tuple[_Bucket, int]] = []
        try:
            for kind, cost in costs.items():
                wanted = rates.get(kind)
                if wanted is None:
                    continue
                for scope, subject in subjects:
                    rate = wanted.get(scope)
                    if rate is None:
                        continue
                    bucket = self._bucket(tenant.id, f"{kind}:{scope}:{subject}", rate)
                    if self._take(tenant.id, kind, f"{scope}:{subject}", bucket, cost):
                        taken.append((bucket, cost))
                    else:
                        cold.append((bucket, kind, f"{scope}:{subject}", cost))
        except TooManyRequests:
            _give_back(taken)
            raise
        return self._wait(tenant.id, cold, taken) if cold else None

    def charge(self, tenant: Tenant, kind: str, cost: int, subjects: Iterable[Subject] = _WHOLE) -> None:
        """Takes tokens for what has been done already, though somebody owes them then; gives back what is below nothing."""
        wanted = tenant.limits.rates.get(kind)
        if wanted is None or not cost:
            return
        for scope, subject in subjects:
            rate = wanted.get(scope)
            if rate is None:
                continue
            bucket = self._bucket(tenant.id, f"{kind}:{scope}:{subject}", rate)
            bucket.tokens = min(bucket.tokens - cost, rate.limit)
            if bucket.tokens < 1:
                self._fetch(tenant.id, kind, f"{scope}:{subject}", bucket)

    async def start(self) -> None:
        """Looks whether calls can be counted.

        Raises:
            Unavailable: they cannot.
        """
        await self._store.open()

    async def stop(self) -> None:
        """Ends what is under way."""
        for task in [*self._fetches]:
            task.cancel()
        await asyncio.gather(*self._fetches, return_exceptions=True)
        await self._store.close()

    def _bucket(self, app_id: str, name: str, rate: Rate) -> _Bucket:
        bucket = self._buckets.get(app_id, name)
        if bucket is None or bucket.rate != rate:
            # A limit that was changed counts at once.
            bucket = _Bucket(rate)
            self._buckets.put(app_id, name, bucket)
        return bucket

    def _take(self, app_id: str, kind: str, subject: str, bucket: _Bucket, cost: int) -> bool:
        """Takes tokens that are here; False when the database has to be asked first."""
        now = self._clock()
        if bucket.tokens >= 1:
            bucket.tokens -= cost
            if bucket.tokens < _batch(bucket.rate) / 2 and _batch(bucket.rate) > 1 and bucket.empty_until <= now:
                self._fetch(app_id, kind, subject, bucket)
            return True
        if bucket.empty_until > now:
            raise self._refusal(kind, bucket, now)
        return False

    async def _wait(self, app_id: str, cold: list[_Asked], taken: list[tuple[_Bucket, int]]) -> None:
        try:
            for bucket, kind, subject, cost in cold:
                while not self._take(app_id, kind, subject, bucket, cost):
                    await asyncio.shield(self._fetch(app_id, kind, subject, bucket))
                taken.append((bucket, cost))
        except TooManyRequests:
            _give_back(taken)
            raise

    def _fetch(self, app_id: str, kind: str, subject: str, bucket: _Bucket) -> asyncio.Task[None]:
        task = bucket.fetch
        if task is None or task.done():
            task = bucket.fetch = asyncio.ensure_future(self._load(app_id, kind, subject, bucket))
            self._fetches.add(task)
            task.add_done_callback(self._fetches.discard)
        return task

    async def _load(self, app_id: str, kind: str, subject: str, bucket: _Bucket) -> None:
        try:
            wanted = _batch(bucket.rate) + max(0, -math.floor(bucket.tokens))
            grant = await self._store.take(app_id, kind, subject, bucket.rate, wanted)
        except FeathersError as error:
            self._go_blind(bucket, error)
            return
        bucket.blind_since = None
        bucket.tokens += grant.tokens
        if bucket.tokens < 1 or grant.tokens < wanted:
            bucket.empty_until = self._clock() + max(grant.wait, _until_next(bucket)) + _until_batch(bucket.rate)

    def _go_blind(self, bucket: _Bucket, error: FeathersError) -> None:
        """Nobody can be asked: a rate protects the server, so calls go on at the rate, counted here alone."""
        now = self._clock()
        if bucket.blind_since is None:
            log.warning("rates: counted by this process alone", error=type(error).__name__)
            bucket.tokens += _batch(bucket.rate)
        else:
            bucket.tokens = min(bucket.tokens + (now - bucket.blind_since) * bucket.rate.per_second, bucket.rate.limit)
        bucket.blind_since = now
        if bucket.tokens < 1:
            bucket.empty_until = now + min(BLIND, _until_next(bucket))

    def _refusal(self, kind: str, bucket: _Bucket, now: float) -> TooManyRequests:
        self.refused += 1
        wait = max(bucket.empty_until - now, 0.001)
        data = {"reason": ONCE, "limit": kind, "retry_after": math.ceil(wait * 1000) / 1000}
        return TooManyRequests(f"Too many calls: try again in {math.ceil(wait)} s", data=data)


def _give_back(taken: Iterable[tuple[_Bucket, int]]) -> None:
    """A call that one bucket refuses costs the others nothing: nobody uses up his app's by calls that are refused."""
    for bucket, cost in taken:
        bucket.tokens = min(bucket.tokens + cost, bucket.rate.limit)


def _until_next(bucket: _Bucket) -> float:
    """Seconds until a bucket has its next token; never so few that a clock would not see them."""
    return max(0.001, (1 - bucket.tokens) / bucket.rate.per_second)


def _until_batch(rate: Rate) -> float:
    """Seconds from the next token of an empty bucket until it is worth a query."""
    return (min(_batch(rate), max(1, rate.limit // 2)) - 1) / rate.per_second


def _batch(rate: Rate) -> int:
    """Tokens that a node takes at a time."""
    return max(1, min(rate.limit, round(rate.per_second * AHEAD)))
