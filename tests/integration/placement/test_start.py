"""A start with new apps: those that take long are waited for, and one that cannot be made holds up none of the others."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import pytest
from pymongo import AsyncMongoClient

from server import applying
from server.main import Roost
from services.control import lifecycle
from services.control.places import OWN_URI
from services.control.sagas import PROVISION
from tests.conftest import StartRoost
from tests.support.client import CallError, outcome, rest, until
from tests.support.line import line
from tests.support.placed import CLUSTERS
from tests.support.recycling import new_name

pytestmark = pytest.mark.shared_only("names the places of its apps")

REFUSING = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100"
OWN = "  - {id: own-%d, placement: {model: database}, services: {notes: {rules: {default: public}}}}"
APPS = "\n".join(("tenants:", *(OWN % n for n in range(4))))
LOST = (
    APPS
    + "\n  - {id: lost, placement: {model: cluster, uri_env: LOST_URI}, services: {notes: {rules: {default: public}}}}"
)


async def made(roost: Roost, app_id: str) -> None:
    """Returns when an app is served, at whichever attempt."""

    async def is_ready() -> bool:
        tenant = await roost.catalogue.get(app_id)
        return tenant is not None and tenant.status == "ready"

    await until(is_ready, 30)


async def test_apps_with_databases_of_their_own_are_ready_when_the_server_listens(
    roosts: StartRoost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However short the wait of others is."""
    monkeypatch.setattr(lifecycle, "PATIENCE", 0.0)
    roost = await roosts(APPS)
    for n in range(4):
        async with rest(roost, f"own-{n}") as client:
            await client.call("create", "notes", {"text": "at once"})


@pytest.mark.usefixtures("left_by_the_driver")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_cluster_that_cannot_be_reached_holds_up_no_start_and_no_other_app(
    roosts: StartRoost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOST_URI", REFUSING)
    async with asyncio.timeout(applying.MAKING / 2):
        roost = await roosts(LOST)
    for n in range(4):
        async with rest(roost, f"own-{n}") as client:
            await client.call("create", "notes", {"text": "at once"})
    async with rest(roost, "lost") as client:
        refused = await outcome(client, "find", "notes")
    assert isinstance(refused, CallError)
    assert (refused.code, refused.data["reason"]) == (403, "TenantUnavailable")
    operation = await roost.backend.control.operations.latest("lost", PROVISION)
    assert operation is not None
    assert operation.is_active, "it is tried again"

    await roost.backend.secrets.put("lost", OWN_URI, CLUSTERS.uri("own"))
    await made(roost, "lost")
    again = await roost.backend.control.operations.latest("lost", PROVISION)
    assert again is not None
    assert again.id == operation.id


@pytest.mark.parametrize("is_silent", [True, False], ids=["silent", "slow"])
async def test_a_start_waits_for_a_cluster_that_takes_its_time_no_longer_than_it_says(
    roosts: StartRoost, monkeypatch: pytest.MonkeyPatch, *, is_silent: bool
) -> None:
    """What says nothing is tried again anyway; what answers each command in time would be waited for until all is made."""
    monkeypatch.setattr(applying, "MAKING", 1.0)
    async with line(urlsplit(CLUSTERS.uri("own")).port or 0) as (way, address):
        monkeypatch.setenv("LOST_URI", f"mongodb://{address}/?directConnection=true")
        if is_silent:
            way.hold()
        else:
            way.delay = 0.2
        async with asyncio.timeout(15):
            roost = await roosts(LOST)
        operation = await roost.backend.control.operations.latest("lost", PROVISION)
        assert operation is not None
        assert operation.is_active, "it goes on"
        for n in range(4):
            await made(roost, f"own-{n}")
            async with rest(roost, f"own-{n}") as client:
                await client.call("create", "notes", {"text": "hello"})

        way.release()
        way.delay = 0.0
        await made(roost, "lost")
        async with rest(roost, "lost") as client:
            await client.call("create", "notes", {"text": "after all"})
        await roost.drop()


@pytest.mark.usefixtures("left_by_the_driver")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_server_with_an_app_that_cannot_be_reached_stops_and_is_dropped(
    roosts: StartRoost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of what was done is lost for that, and what can be deleted is."""
    monkeypatch.setenv("LOST_URI", REFUSING)
    roost = await roosts(LOST, database=new_name())
    assert roost.settings.mongodb_uri is not None
    await roost.backend.audit.settled()
    assert roost.backend.audit.dropped == 0
    client, name = roost.backend.deployment.client, roost.settings.database
    noted = await client[name]["audit_log"].find({"app_id": "control_plane", "subject": "lost"}).to_list()
    assert sorted(entry["event"] for entry in noted) == ["app-applied", "app-created"]
    placed = [(await roost.backend.tenants.document(f"own-{n}"))["placement"]["database"] for n in range(4)]

    async with asyncio.timeout(5):
        await roost.drop()
    async with AsyncMongoClient[dict[str, Any]](roost.settings.mongodb_uri.get_secret_value()) as afterwards:
        assert not {name, f"{name}_control", *placed} & {*await afterwards.list_database_names()}
