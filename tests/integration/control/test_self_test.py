"""The self-test at each start (TENANCY CO-3): a guard that is missing stops it, and nothing of the test is kept."""

from __future__ import annotations

import pytest

from server.backend import StartError
from server.main import Roost
from services import protection
from services.isolation import Isolation, ScopedCollection
from tests.conftest import StartRoost
from tests.support.roost import CONTROL_PLANE


async def test_nothing_of_it_is_kept(roost: Roost) -> None:
    """CO-3: the throw-away record is gone."""
    roles = roost.backend.deployment.client[roost.settings.database]["roles"]
    assert await roles.count_documents({"app_id": CONTROL_PLANE, "is_system": True}) == 0


async def test_a_missing_protection_stops_the_start(roosts: StartRoost, monkeypatch: pytest.MonkeyPatch) -> None:
    """CO-3: copies that could be written; unless the test is switched off."""
    monkeypatch.setattr(protection, "COLLECTIONS", {})
    with pytest.raises(StartError, match="a copy of the control plane's could be changed"):
        await roosts()
    await roosts(self_test=False)


async def test_a_missing_scope_stops_the_start(roosts: StartRoost, monkeypatch: pytest.MonkeyPatch) -> None:
    """CO-3: a read that reaches another app."""
    confine = Isolation._confine

    def loose(self: Isolation, tenant: object, name: str, searched: object = ()) -> ScopedCollection:
        scoped = confine(self, tenant, name, searched)  # type: ignore[arg-type]
        scoped._tenant_id = CONTROL_PLANE
        return scoped

    monkeypatch.setattr(Isolation, "_confine", loose)
    with pytest.raises(StartError, match="could be read by another app"):
        await roosts()
