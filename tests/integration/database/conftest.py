"""Deployments themselves, below all apps: `--model` is nothing to them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import get_args
from uuid import uuid4

import pytest

from services.database.deployment import Deployment, Path
from services.database.schema import CollectionSchema, Index
from services.store import Collection, Namespace
from tests.integration.database.commands import Commands
from tests.support.mongod import ReplicaSet

USERS = CollectionSchema("users", (Index((("app_id", 1), ("username_key", 1)), unique=True),))


@pytest.fixture(scope="session")
def replica_set() -> Iterator[ReplicaSet]:
    with ReplicaSet() as replica_set:
        yield replica_set


@pytest.fixture(params=get_args(Path))
def path(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@pytest.fixture
def commands() -> Commands:
    return Commands()


@pytest.fixture
async def deployment(replica_set: ReplicaSet, path: Path, commands: Commands) -> AsyncIterator[Deployment]:
    deployment = Deployment(replica_set.uri, path=path, event_listeners=[commands])
    await deployment.open()
    yield deployment
    await deployment.close()


@pytest.fixture
async def collection(deployment: Deployment) -> AsyncIterator[Collection]:
    """An empty collection of users in a database of its own."""
    database = f"test_{uuid4().hex}"
    await deployment.ensure(database, USERS)
    yield deployment.collection(Namespace(database, "users"))
    await deployment.client.drop_database(database)
