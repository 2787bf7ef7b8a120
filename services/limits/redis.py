"""Buckets in Redis (the extra `redis`), for deployments that have one: MongoDB is not written for limits then."""

from __future__ import annotations

import asyncio
from typing import Any

from hooks.errors import Unavailable
from hooks.tenant import Rate
from services.limits.store import Grant
from services.redis import connect

BOUND = 1.0
"""Seconds that one command may take, with connecting."""
KEPT = 60_000
"""Milliseconds for which a bucket is kept longer than it takes to fill: one that is deleted comes back full."""

# Fills the bucket to now by Redis' own clock, which may be set back, then takes from it; a refusal keeps what was filled in.
_TAKE = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local limit, per_second, want, kept = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local bucket = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(bucket[1]) or limit, tonumber(bucket[2]) or now
tokens = math.min(limit, tokens + math.max(0, now - at) * per_second)
local granted = math.max(0, math.min(want, math.floor(tokens)))
redis.call('HSET', KEYS[1], 'tokens', tokens - granted, 'at', math.max(now, at))
redis.call('PEXPIRE', KEYS[1], kept)
return {granted, tostring(tokens - granted)}
"""


class RedisRateStore:
    """The `services.limits.store.RateStore` of a Redis: one hash for each bucket."""

    def __init__(self, url: str, *, database: str) -> None:
        """`database` keeps the buckets of several deployments on one Redis apart.

        Raises:
            NoRedis: the library is not installed, or the address is none.
        """
        self._client, self._failed = connect(url, socket_connect_timeout=BOUND, socket_timeout=BOUND)
        self._take: Any = self._client.register_script(_TAKE)
        self._prefix = f"roost:{database}:rate"

    async def open(self) -> None:
        try:
            async with asyncio.timeout(BOUND):
                await self._client.ping()
        except self._failed as error:
            raise Unavailable("Redis does not answer") from error

    async def close(self) -> None:
        await self._client.aclose()

    async def take(self, app_id: str, kind: str, subject: str, rate: Rate, want: int) -> Grant:
        kept = round(rate.seconds * 1000) + KEPT
        try:
            async with asyncio.timeout(BOUND):
                granted, left = await self._take(
                    keys=[self.key(app_id, kind, subject)], args=[rate.limit, rate.per_second, want, kept]
                )
        except self._failed as error:
            raise Unavailable("Redis does not answer") from error
        return Grant(granted, 0.0 if granted else max(0.0, (1 - float(left)) / rate.per_second))

    def key(self, app_id: str, kind: str, subject: str) -> str:
        """Where a bucket is. Ids of apps and kinds have no colon, so that nobody's subject names another one's bucket."""
        return f"{self._prefix}:{app_id}:{kind}:{subject}"
