"""TENANCY 1.4, DB-2: whoever manages one app sees what is done to it, and not where its data is or by which servers."""

from __future__ import annotations

import json

import pytest

from server.main import Roost
from tests.integration.entities.managers import at_home, make_manager, switch
from tests.integration.entities.people import HUB, NORTH, TRANSPORTS, make_person, person
from tests.support.client import until

pytestmark = pytest.mark.asyncio(loop_scope="module")
HIDDEN = {
    "target": {"database": "t_hidden"},
    "switched": {"nodes": ["hidden"]},
    "evidence": {"hidden": 1},
    "token": "hidden",
}
SHOWN = {"copied": {"notes": 3}, "proof": {"left": 0}}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_notes_name_no_place_to_who_manages_one_app(served: Roost, transport: str) -> None:
    """By `find` and by `get`; operators of the control plane see all but the token."""
    records = served.backend.deployment.client[f"{served.settings.database}_control"]["tenant_operations"]
    await records.update_many({"app_id": NORTH}, {"$set": {"notes": {**HIDDEN, **SHOWN}}})
    manager = await make_manager(served, "read:tenant_operations")
    async with at_home(served, transport, manager) as max_:
        await switch(max_, NORTH)
        page = await max_.call("find", "tenant-operations")
        assert [operation["notes"] for operation in page["data"]] == [SHOWN] * page["total"] != []
        one = await max_.call("get", "tenant-operations", page["data"][0]["_id"])
        assert one["notes"] == SHOWN
        assert "hidden" not in json.dumps([page, one])
    name, _ = await make_person(served, HUB, "read:tenant_operations", "read:tenants")
    async with person(served, HUB, transport, name) as root:

        async def is_all() -> bool:
            seen = await root.call("get", "tenant-operations", one["_id"])
            return bool({*seen["notes"]} == {*HIDDEN, *SHOWN} - {"token"})

        await until(is_all)
