"""A server with its control plane, for all rows of a module; its plug-in has some settings of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from server.main import Roost
from services.setting_keys import PublicTenant
from tests.support.roost import start_roost
from tests.support.tripwire import Tripwire


def fail(key: str, value: Any, tenant: PublicTenant) -> Any:
    """A transform that is broken."""
    raise RuntimeError(f"no {value}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(mongod: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Roost]:
    """A server with the apps of `TWO_APPS`."""
    tripwire = Tripwire()
    roost = await start_roost(mongod, tripwire=tripwire, data=tmp_path_factory.mktemp("roost"))
    roost.app.settings.declare("shop.currency", {"type": "string"}, default="EUR")
    roost.app.settings.declare("shop.margin", {"type": "number"}, read="read:clients", write="update:clients")
    roost.app.settings.declare("shop.payee", {"type": "string"}, inheritable=False)
    roost.app.settings.declare("shop.audience", {"type": "string"})
    roost.app.settings.transform("fail", fail)
    roost.app.settings.transform("count", lambda key, value, tenant: len(value))
    yield roost
    await roost.drop()
    assert tripwire.violations == []
