"""TENANCY OB-5: what a manager from the control plane does to the settings of an app is told in both audit logs."""

from __future__ import annotations

from typing import Any

import pytest

from server.main import Roost
from tests.integration.entities.managers import at_home, make_manager, switch
from tests.integration.entities.people import HUB, NORTH, TRANSPORTS, administrator, tenant_of
from tests.support.client import fresh

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def entries(served: Roost, app: str, tagline: str) -> list[Any]:
    """The entries of an app's log that speak of a tagline."""
    await served.backend.audit.settled()
    log = served.backend.isolation.collection(tenant_of(served, app), "audit_log")
    found = await log.find({"event": "settings-changed"})
    return [one for one in found if tagline in str(one["details"])]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_managers_change_is_in_both_logs(served: Roost, transport: str) -> None:
    """OB-5, TC-12: in the app's under the manager's prefixed id, in the control plane's under his own, with the app's name."""
    manager = await make_manager(served, "read:tenant_settings", "update:tenant_settings")
    tagline, own = fresh("tagline"), fresh("tagline")
    async with at_home(served, transport, manager) as caller:
        await switch(caller, manager.org_id)
        await caller.call("patch", "settings", "current", {"branding": {"tagline": tagline}})
    (here,) = await entries(served, NORTH, tagline)
    (there,) = await entries(served, HUB, tagline)
    assert here["actor_id"] == f"cp:{manager.user_id}"
    assert (there["actor_id"], there["subject"], there["details"]["app"]) == (manager.user_id, NORTH, NORTH)
    async with administrator(served, NORTH) as ada:
        await ada.call("patch", "settings", "current", {"branding": {"tagline": own}})
    assert len(await entries(served, NORTH, own)) == 1
    assert await entries(served, HUB, own) == [], "what the app's own people do is their own business"
