"""A server for whole tables: one per module, watched by the tripwire as all others."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import structlog
from pymongo import AsyncMongoClient

from server.main import Roost
from tests.integration.server.command import environment
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


@pytest.fixture(autouse=True, scope="session")
def _plain_logs() -> None:
    """Tracebacks without local variables, as the server's own: the default would draw whole attacks."""
    processors = (structlog.processors.add_log_level, structlog.processors.format_exc_info)
    structlog.configure(processors=[*processors, structlog.processors.KeyValueRenderer()])


@pytest.fixture
async def env(mongod: str) -> AsyncIterator[dict[str, str]]:
    """The variables of one deployment, whose data is deleted afterwards."""
    database = f"t{secrets.token_hex(6)}"
    yield environment(mongod, database)
    client: AsyncMongoClient[dict[str, Any]]
    async with AsyncMongoClient(mongod) as client:
        await client.drop_database(database)
        await client.drop_database(f"{database}_control")
