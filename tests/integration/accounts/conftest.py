"""A server with the apps of `APPS`, and its mailbox."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.main import Roost
from tests.conftest import StartRoost
from tests.integration.accounts.people import APPS, Mailbox


@pytest.fixture
async def roost(roosts: StartRoost, tmp_path: Path) -> Roost:
    """The server."""
    return await roosts(APPS, data=tmp_path)


@pytest.fixture
def mailbox(roost: Roost) -> Mailbox:
    """The mails of all its users."""
    return Mailbox(roost)
