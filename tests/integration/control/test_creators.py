"""How many apps somebody may make (TENANCY RL-4 "tenants per creator", CP-14)."""

from __future__ import annotations

import asyncio

from tests.conftest import StartRoost
from tests.integration.control.managers import caller_of, delete, manager
from tests.support.client import CallError, outcome
from tests.support.roost import CONTROL_PLANE


def app(id: str) -> dict[str, str]:
    return {"id": id, "friendly_name": id.title()}


async def test_a_creator_has_as_many_apps_as_he_may(roosts: StartRoost) -> None:
    """RL-4, CP-14: however many he asks for at once; another one's do not count, and a deleted one makes room."""
    roost = await roosts(tenants_per_creator=2)
    async with caller_of(roost, "rest") as ada, caller_of(roost, "rest") as bob:
        own = await manager(roost, ada, "create:tenants")
        await manager(roost, bob, "create:tenants")
        found = await asyncio.gather(*(outcome(ada, "create", "tenants", app(f"initech-{n}")) for n in range(4)))
        refused = [one for one in found if isinstance(one, CallError)]
        made = [one["_id"] for one in found if not isinstance(one, CallError)]
        assert len(made) == 2
        for error in refused:
            assert (error.code, error.name) == (403, "QuotaExceeded")
            assert error.data == {"reason": "QuotaExceeded", "name": "tenants", "limit": 2, "used": 2}
        assert {one["_id"] for one in (await ada.call("find", "tenants"))["data"]} == {*made}
        await bob.call("create", "tenants", app("hooli"))
        await delete(roost, made[0])
        again = await ada.call("create", "tenants", app("initech-9"))
        assert again["created_by"] == own


async def test_platform_administrators_are_not_counted(roosts: StartRoost) -> None:
    """RL-4: who may act in any app anyway makes any number of them, as does an operator."""
    roost = await roosts(tenants_per_creator=0)
    async with caller_of(roost, "rest", CONTROL_PLANE) as boss:
        await manager(roost, boss, "create:tenants", "admin:organizations")
        await boss.call("create", "tenants", app("initech"))
        await boss.call("create", "tenants", app("hooli"))
