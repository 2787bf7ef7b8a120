"""PO-4: a server that may ask for more connections than its cluster takes does not start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from server.backend import StartError
from tests.conftest import StartRoost
from tests.support.mongod import ReplicaSet


@pytest.fixture(scope="module")
def small() -> Iterator[ReplicaSet]:
    with ReplicaSet(options=["--maxConns=60"]) as replica_set:
        yield replica_set


async def test_a_pool_that_the_cluster_cannot_fill(small: ReplicaSet, roosts: StartRoost) -> None:
    with pytest.raises(StartError, match="ROOST_MONGO_POOL"):
        await roosts(uri=small.uri, mongo_pool=50, mongo_path="lean")
    await roosts(uri=small.uri, mongo_pool=10)
