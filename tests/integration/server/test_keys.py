"""Keys beside the cache (TENANCY CK-5, CK-6): whatever is kept or cached anywhere is told apart by its tenant."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from hooks.tenant import tenant_scope
from server.main import Roost
from services.control.rates import BUCKETS
from services.control.tenants import control_database
from tests.conftest import StartRoost
from tests.integration.jobs.conftest import nothing
from tests.support.client import connect, rest

LIMITED = """
tenants:
  - id: acme
    limits: &limits {rates: {event: {tenant: {limit: 5, seconds: 1000}}}}
    services: &services {notes: {rooms: {by: room, join: public}, rules: {default: public}}}
  - id: globex
    limits: *limits
    services: *services
"""


@pytest.mark.parametrize("path", ["/notes", "/notes/unknown", "/unheard-of"])
async def test_answers_are_for_their_caller_alone(roost: Roost, path: str) -> None:
    """CK-5: a cache on the way keeps none for others, and tells callers, pages and apps apart."""
    headers = {"x-app-id": "acme"}
    async with aiohttp.ClientSession() as session, session.get(f"{roost.url}{path}", headers=headers) as reply:
        assert "private" in reply.headers["Cache-Control"]
        vary = {name.strip().lower() for name in reply.headers["Vary"].split(",")}
        assert {"origin", "authorization", "x-app-id", "x-tenant-id", "x-api-key"} <= vary


async def test_documents_of_two_apps_have_two_tags(roost: Roost) -> None:
    """CK-5: an ETag says whose the document is."""
    tags: set[str] = set()
    for app_id in ("acme", "globex"):
        async with rest(roost, app_id) as client:
            reply = await client.request("GET", "/openapi.json")
            tags.update(value for name, value in reply.headers.items() if name.lower() == "etag")
    assert len(tags) == 2


async def test_rooms_buckets_and_jobs_carry_their_tenant(roosts: StartRoost) -> None:
    """CK-6: the same names in two tenants are never the same key."""
    roost = await roosts(LIMITED)
    roost.jobs.handle("digest", nothing)
    async with connect(roost, "acme") as ada, connect(roost, "globex") as eve:
        for client in (ada, eve):
            await client.call("create", "rooms", {"service": "notes", "room": "blue"})
        members: dict[Any, Any] = roost.app.channels._members
        assert {tenant for tenant, name in members if "blue" in name} == {"acme", "globex"}
        assert all(len(own) == 1 for (_, name), own in members.items() if "blue" in name)
    control = roost.backend.deployment.client[control_database(roost.settings.database)]
    assert {bucket["_id"]["app_id"] async for bucket in control[BUCKETS].find()} == {"acme", "globex"}
    for app_id in ("acme", "globex"):
        tenant = await roost.catalogue.get(app_id)
        assert tenant is not None
        with tenant_scope(tenant):
            await roost.jobs.enqueue("digest")
        assert (await roost.backend.job_store.find(app_id, {"name": "digest"}, 0, 10))[1] == 1
