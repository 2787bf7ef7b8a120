"""What the service `tenants` refuses, over both transports (TENANCY CP-5, CP-10, CP-11, CP-14, CP-15)."""

from __future__ import annotations

from typing import Any

import pytest

from server.main import Roost
from tests.integration.control.managers import caller_of, code, manager
from tests.support.roost import CONTROL_PLANE

pytestmark = pytest.mark.asyncio(loop_scope="module")
BOTH = pytest.mark.parametrize("transport", ["socketio", "rest"])


@BOTH
@pytest.mark.parametrize(
    "query",
    [
        {"$limit": -1},
        {"$limit": 1.5},
        {"$limit": "ten"},
        {"$skip": -1},
        {"$skip": "x"},
        {"auth": "x"},
        {"services.notes": "x"},
        {"$or": [{"plan": "gold"}]},
        {"$where": "1"},
        {"plan": {"$regex": "g"}},
        {"plan": {"$nin": ["gold"]}},
        {"friendly_name": {"$ne": "x"}},
        {"created_at": "yesterday"},
        {"$sort": {"auth": 1}},
        {"$sort": {"plan": 2}},
        {"$select": ["auth"]},
    ],
    ids=str,
)
async def test_what_cannot_be_asked(shared: Roost, transport: str, query: dict[str, Any]) -> None:
    """CP-10, CP-11: a list of fields and operators, and 400 for all else."""
    async with caller_of(shared, transport) as client:
        await manager(shared, client, "read:tenants")
        assert await code(client, "find", "tenants", query) == 400


@BOTH
@pytest.mark.parametrize(
    "data",
    [
        {},
        {"friendly_name": ""},
        {"friendly_name": "x" * 121},
        {"friendly_name": 7},
        {"friendly_name": "x", "status": "ready"},
        {"friendly_name": "x", "services": {}},
        {"friendly_name": "x", "_id": "initech"},
        {"friendly_name": "x", "id": "UPPER"},
        {"friendly_name": "x", "id": "www"},
        {"friendly_name": "x", "id": "a.b"},
        {"friendly_name": "x", "allowed_origins": ["*"]},
        {"friendly_name": "x", "settings": {"a": 1}},
        [{"friendly_name": "x"}],
    ],
    ids=str,
)
async def test_bodies_that_make_no_app(shared: Roost, transport: str, data: Any) -> None:
    """CP-5, CP-14: unknown keys, bad names, ids that no app may have."""
    async with caller_of(shared, transport) as client:
        await manager(shared, client, "create:tenants")
        assert await code(client, "create", "tenants", data) == 400


@BOTH
async def test_what_no_client_may_write(shared: Roost, transport: str) -> None:
    """CP-15: the id, state, placement, epoch and what the sync writes."""
    async with caller_of(shared, transport) as client:
        await manager(shared, client, "read:tenants", "update:tenants")
        for field in (
            "_id",
            "status",
            "placement",
            "isolation",
            "epoch",
            "source_id",
            "services",
            "auth",
            "control_plane",
        ):
            assert await code(client, "patch", "tenants", "acme", {field: "x"}) == 400
        assert await code(client, "patch", "tenants", "acme", {"$set": {"status": "x"}}) == 400
        assert await code(client, "patch", "tenants", None, {"plan": "gold"}) == 405
        assert await code(client, "remove", "tenants", None) == 405
        assert await code(client, "update", "tenants", "acme", {"plan": "gold"}) == 405
        assert await code(client, "patch", "tenants", CONTROL_PLANE, {"is_active": False}) == 403
