"""A control plane with its first user, two apps, and copies that are there without the sync."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from bson import ObjectId

from hooks.context import Record
from hooks.tenant import Tenant
from server.main import Roost
from services.protection import SyncCapability
from tests.integration.entities.people import NORTH, SOUTH, administrator, make_person, make_role, person, refusal
from tests.support.client import TIMEOUT, Client, Rest, connect, fresh, rest, until
from tests.support.roost import ADMIN, CONTROL_PLANE

__all__ = [
    "APPS",
    "CONTROL_PLANE",
    "NORTH",
    "SOUTH",
    "administrator",
    "make_copy",
    "make_person",
    "make_role",
    "manager",
    "person",
    "quiet",
    "refusal",
    "tenant",
]

APPS = f"""
tenants:
  - id: {NORTH}
    auth: {{username_field: email}}
    services:
      notes: {{multi: true, rules: {{default: authenticated}}}}
  - id: {SOUTH}
    auth: {{username_field: email}}
"""


async def tenant(roost: Roost, id: str) -> Tenant:
    """The tenant's present snapshot."""
    found = await roost.backend.tenants.get(id)
    assert found is not None
    return found


@asynccontextmanager
async def manager(roost: Roost, transport: str = "http") -> AsyncIterator[Client | Rest]:
    """The first user of the control plane, logged in."""
    async with connect(roost, CONTROL_PLANE) if transport == "socket" else rest(roost, CONTROL_PLANE) as caller:
        assert isinstance(caller, (Client, Rest))
        await caller.login(*ADMIN)
        yield caller


async def make_copy(roost: Roost, app: str, collection: str, **fields: Any) -> Record:
    """A copy as the sync makes them, of something that the control plane does not have."""
    record = {
        "_id": ObjectId(),
        "name": fresh("copy"),
        "is_system": True,
        "source_id": str(ObjectId()),
        "source_rev": 1,
        "synced_at": datetime.now(UTC),
        "rev": 1,
        **fields,
    }
    if "identifier" in fields or "role_id" in fields:
        del record["name"]
    await roost.backend.isolation.copies(await tenant(roost, app), collection, SyncCapability()).insert([record])
    return record


async def quiet(roost: Roost) -> None:
    """Returns when no word of a change waits, and nothing is tried again."""
    sync = roost.backend.sync

    async def is_quiet() -> bool:
        return await sync.outbox.oldest() is None and not await sync.state.count({"status": "pending"})

    await until(is_quiet, 4 * TIMEOUT)
