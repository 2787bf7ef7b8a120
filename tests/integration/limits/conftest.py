"""Stores over a real database, and nodes that share them.

They are the control plane's, wherever apps are: `--model` is for the servers of `test_limits` alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest

from hooks.tenant import Limits, Rate, Tenant
from services.control.rates import MongoQuotaStore, MongoRateStore
from services.database.deployment import Deployment
from services.limits.redis import RedisRateStore
from services.limits.store import RateStore
from tests.support.redis import redis_server


@pytest.fixture
async def deployment(mongod: str) -> AsyncIterator[Deployment]:
    deployment = Deployment(mongod)
    await deployment.open()
    yield deployment
    await deployment.close()


@pytest.fixture
async def database(deployment: Deployment) -> AsyncIterator[str]:
    database = f"t{uuid4().hex[:12]}"
    yield database
    await deployment.client.drop_database(f"{database}_control")


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The address of the session's Redis."""
    with redis_server() as url:
        yield url


@pytest.fixture
async def mongo_store(deployment: Deployment, database: str) -> MongoRateStore:
    store = MongoRateStore(deployment, database=database)
    await store.prepare()
    return store


@pytest.fixture
async def redis_store(redis_url: str) -> AsyncIterator[RedisRateStore]:
    store = RedisRateStore(redis_url, database=f"t{uuid4().hex[:12]}")
    await store.open()
    yield store
    await store.close()


@pytest.fixture(params=["mongodb", "redis"])
def store(request: pytest.FixtureRequest) -> RateStore:
    """Of either kind."""
    found: RateStore = request.getfixturevalue("mongo_store" if request.param == "mongodb" else "redis_store")
    return found


@pytest.fixture
async def quota_store(deployment: Deployment, database: str) -> MongoQuotaStore:
    store = MongoQuotaStore(deployment, database=database)
    await store.prepare()
    return store


def limited(
    id: str = "acme", kind: str = "event", scope: str = "tenant", *, limit: int, seconds: float = 1.0
) -> Tenant:
    """A tenant with one rate."""
    return Tenant(id, id.title(), limits=Limits(rates={kind: {scope: Rate(limit, seconds)}}))
