"""Rates counted in Redis: by its clock, apart for each deployment and bucket, and open when it is gone."""

from __future__ import annotations

import asyncio
import time

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from hooks.errors import TooManyRequests, Unavailable
from hooks.tenant import Rate
from server.backend import StartError
from services.database.mongod import free_port
from services.limits.rates import Rates
from services.limits.redis import KEPT, RedisRateStore
from services.limits.store import Grant
from tests.conftest import StartRoost
from tests.integration.limits.conftest import limited
from tests.integration.limits.test_rates import count
from tests.support.client import connect, outcome
from tests.support.redis import redis_server

APPS = """
tenants:
  - id: acme
    limits: {rates: {event: {tenant: {limit: 20, seconds: 1000}}}}
    services: {notes: {rules: {default: public}}}
"""
SLOW = Rate(1, 120)


async def test_a_bucket_outlives_the_time_to_full_and_keeps_what_was_filled_in(
    redis_store: RedisRateStore, redis_url: str
) -> None:
    """RL-3: one in two minutes stays that; a clock that was set back makes no tokens, and takes none away."""

    async def ago(seconds: float) -> Grant:
        await redis.hset(key, "at", str(time.time() - seconds))
        return await redis_store.take("acme", "event", "tenant:", SLOW, 1)

    async def kept() -> float:
        return float(await redis.hget(key, "tokens") or "")

    key = redis_store.key("acme", "event", "tenant:")
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        assert await redis_store.take("acme", "event", "tenant:", SLOW, 1) == Grant(1, 0.0)
        assert 120_000 < await redis.pttl(key) <= 120_000 + KEPT
        refused = await ago(60)
        assert refused.tokens == 0
        assert 59 < refused.wait < 61
        assert 0.4 < await kept() < 0.6
        before = await kept()
        assert (await ago(-1000)).tokens == 0
        assert await kept() == before
        assert (await ago(70)).tokens == 1


async def test_buckets_are_apart(redis_store: RedisRateStore, redis_url: str) -> None:
    """ARCHITECTURE rule 3: by deployment, tenant, kind and subject, whatever a subject is called."""
    other = RedisRateStore(redis_url, database="other")
    try:
        for store, app_id, kind, subject in (
            (redis_store, "acme", "event", "user:a"),
            (redis_store, "acme", "event", "user:a:b"),
            (redis_store, "acme", "http", "user:a"),
            (redis_store, "globex", "event", "user:a"),
            (redis_store, "globex", "event", "acme:event:user:a"),
            (other, "acme", "event", "user:a"),
        ):
            assert (await store.take(app_id, kind, subject, SLOW, 1)).tokens == 1
            assert (await store.take(app_id, kind, subject, SLOW, 1)).tokens == 0
    finally:
        await other.close()


async def test_without_redis_each_node_counts_by_itself() -> None:
    """N3: a call waits for a second at most, goes on, and is counted again when Redis is back."""
    port, tenant = free_port(), limited(limit=800, seconds=100)
    with redis_server(port) as url:
        store = RedisRateStore(url, database="gone")
        rates = Rates(store)
        await rates.start()
        assert 800 <= await count(rates, tenant, 1000) < 900
    try:
        with pytest.raises(Unavailable):
            await store.open()
        alone = Rates(store)
        async with asyncio.timeout(3):
            assert await count(alone, tenant, 20) == 2, "what a node has for a quarter of a second"
        with redis_server(port):
            await store.open()
            assert await count(Rates(store), limited("globex", limit=8, seconds=1000), 20) == 8
    finally:
        await rates.stop()


async def test_servers_share_their_counts_in_redis(roosts: StartRoost, redis_url: str) -> None:
    """RL-2, over real sockets; MongoDB hears nothing of it."""
    first = await roosts(APPS, rates=SecretStr(redis_url))
    second = await roosts(APPS, rates=SecretStr(redis_url), database=first.settings.database)
    async with connect(first, "acme") as ada, connect(second, "acme") as bob:
        answers = [await outcome(client, "find", "notes", {}) for _ in range(20) for client in (ada, bob)]
        refused = [one for one in answers if isinstance(one, Exception)]
        assert len(answers) - len(refused) == 20
        assert {one.code for one in refused} == {TooManyRequests.code}  # type: ignore[attr-defined]
    control = first.backend.deployment.client[f"{first.settings.database}_control"]
    assert await control["rate_buckets"].count_documents({}) == 0


@pytest.mark.parametrize(
    ("address", "sentence"),
    [("mongodb://127.0.0.1", "must be redis://host:port"), ("redis://127.0.0.1:1", "Redis does not answer")],
)
@pytest.mark.parametrize("setting", ["rates", "bus"])
async def test_an_address_without_a_redis_stops_the_start(
    roosts: StartRoost, setting: str, address: str, sentence: str
) -> None:
    with pytest.raises(StartError, match=f"ROOST_{setting.upper()}: {sentence}"):
        await roosts(APPS, **{setting: SecretStr(address)})
