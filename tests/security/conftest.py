"""One server with two apps that are alike, for all rows of a module."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import structlog

from server.main import Roost
from tests.security.apps import ALIKE, NORTH, SOUTH, Side, side
from tests.support.roost import start_roost
from tests.support.tripwire import Tripwire


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def alike(mongod: str) -> AsyncIterator[Roost]:
    """A server with the apps of `ALIKE`."""
    tripwire = Tripwire()
    roost = await start_roost(mongod, ALIKE, tripwire=tripwire)
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


@pytest.fixture(autouse=True, scope="session")
def _plain_logs() -> None:
    """Tracebacks without local variables, as the server's own: the default would draw whole attacks."""
    processors = (structlog.processors.add_log_level, structlog.processors.format_exc_info)
    structlog.configure(processors=[*processors, structlog.processors.KeyValueRenderer()])
