"""A server with a control plane and two apps, for all rows of a module."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from server.main import Roost
from tests.integration.sync.people import APPS
from tests.support.roost import start_roost
from tests.support.tripwire import Tripwire


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(mongod: str) -> AsyncIterator[Roost]:
    """A server with the apps of `APPS`."""
    tripwire = Tripwire()
    roost = await start_roost(mongod, APPS, tripwire=tripwire)
    yield roost
    await roost.drop()
    assert tripwire.violations == []
