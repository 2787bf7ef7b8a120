"""SY-10, 10.4, 24: a change in the control plane reaches a thousand apps; how long that takes, and how many commands."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime

import pytest
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from server.main import Roost
from services.declaration import parse
from tests.integration.control.managers import control_collection
from tests.integration.sync.people import manager
from tests.support.client import Caller, fresh
from tests.support.roost import settings_for

APPS = 1000
LONGEST = 60.0
"""Seconds, on a machine that does other things as well."""


class Counter(CommandListener):
    """Counts commands."""

    def __init__(self) -> None:
        self.count = 0

    def started(self, event: CommandStartedEvent) -> None:
        """One more."""
        self.count += 1

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Nothing to count."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Nothing to count."""


@pytest.mark.load
async def test_a_change_reaches_a_thousand_apps(mongod: str) -> None:
    """SY-10: made, changed and removed in all of them, with bounded work for each."""
    counter = Counter()
    roost = await Roost.start(settings_for(mongod), parse("tenants: [{id: one}]"), listeners=[counter])
    try:
        tenants = control_collection(roost, "tenants")
        entry = await tenants.find_one({"_id": "one"})
        more = [{**entry, "_id": f"app-{n}", "public_keys": [secrets.token_urlsafe(24)]} for n in range(APPS - 1)]
        await tenants.insert_many(more)
        async with manager(roost) as root:
            role = {"name": fresh()}
            for what in ("create", "patch", "permission", "remove"):
                await _measure(roost, root, what, role, counter)
    finally:
        await roost.drop()


async def _measure(roost: Roost, root: Caller, what: str, role: dict[str, str], counter: Counter) -> None:
    began, before = time.monotonic(), counter.count
    if what == "create":
        role["_id"] = (await root.call("create", "roles", {"name": role["name"]}))["_id"]
    elif what == "patch":
        await root.call("patch", "roles", role["_id"], {"description": f"{datetime.now(UTC)}"})
    elif what == "permission":
        triple = {"rs_identifier": "management", "permission": "read:users"}
        await root.call("create", f"roles/{role['_id']}/permissions", triple)
    else:
        await root.call("remove", "roles", role["_id"])
    events = control_collection(roost, "sync_events")
    waiting = [event["_id"] async for event in events.find({"state": "pending"}, {"_id": 1})]
    await roost.backend.sync.outbox.wait(waiting)
    seconds, commands = time.monotonic() - began, counter.count - before
    print(  # noqa: T201
        f"\n{what}: {APPS} apps in {seconds:.2f} s, {commands} commands, {commands / APPS:.1f} for each app"
    )
    state = roost.backend.sync.state
    status = "removed" if what == "remove" else "synced"
    assert await state.count({"entity": "roles", "source_id": role["_id"], "status": status}) == APPS
    assert seconds < LONGEST
    assert commands < 12 * APPS
