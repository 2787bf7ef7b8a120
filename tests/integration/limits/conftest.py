"""Stores over a real database, and nodes that share them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from hooks.tenant import Limits, Rate, Tenant
from services.control.rates import MongoQuotaStore, MongoRateStore
from services.database.deployment import Deployment


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


@pytest.fixture
async def store(deployment: Deployment, database: str) -> MongoRateStore:
    store = MongoRateStore(deployment, database=database)
    await store.prepare()
    return store


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
