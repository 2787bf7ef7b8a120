"""A server for whole tables: one per module, watched by the tripwire as all others."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from server.main import Roost
from tests.support.roost import start_roost
from tests.support.tripwire import Tripwire


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(mongod: str) -> AsyncIterator[Roost]:
    """A server with the apps of `TWO_APPS` for all rows of a module, which must not disturb each other."""
    tripwire = Tripwire()
    roost = await start_roost(mongod, tripwire=tripwire)
    yield roost
    await roost.drop()
    assert tripwire.violations == []
