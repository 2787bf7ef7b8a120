"""Two apps that are alike, in databases of their own, for the probes that are run over every model."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from server.main import Roost
from tests.security.apps import ALIKE, NORTH, SOUTH, Side, side
from tests.support.roost import start_roost
from tests.support.tripwire import Tripwire


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["database", "cluster"])
async def alike(request: pytest.FixtureRequest, mongod: str) -> AsyncIterator[Roost]:
    """A server with the apps of `ALIKE`."""
    tripwire = Tripwire()
    roost = await start_roost(mongod, ALIKE, tripwire=tripwire, model=request.param)
    yield roost
    await roost.drop()
    assert tripwire.violations == []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def north(alike: Roost) -> AsyncIterator[Side]:
    """Those whose data is to be kept from others."""
    async with side(alike, NORTH) as people:
        yield people


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def south(alike: Roost) -> AsyncIterator[Side]:
    """Those who try to get at it."""
    async with side(alike, SOUTH) as people:
        yield people


@pytest.fixture
def left_by_the_driver() -> Iterator[None]:
    """The driver leaves sockets to the collector when it is closed while it connects: here, and not in a later test."""
    yield
    gc.collect()
