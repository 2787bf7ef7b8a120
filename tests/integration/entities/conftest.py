"""A server whose first app is the control plane, for all rows of a module."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from server.main import Roost
from tests.integration.accounts.people import Mailbox
from tests.integration.entities.people import APPS
from tests.support.roost import start_roost
from tests.support.tripwire import Tripwire


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(mongod: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Roost]:
    """A server with the apps of `APPS`."""
    tripwire = Tripwire()
    data: Path = tmp_path_factory.mktemp("roost")
    roost = await start_roost(mongod, APPS, tripwire=tripwire, data=data)
    yield roost
    await roost.drop()
    assert tripwire.violations == []


@pytest.fixture
def mailbox(served: Roost) -> Mailbox:
    """The mails of all its users."""
    return Mailbox(served)
