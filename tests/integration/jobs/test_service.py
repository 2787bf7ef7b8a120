"""The jobs service over both transports: one's own app's jobs, for those who hold the permission, without payloads."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from hooks.tenant import tenant_scope
from server.main import Roost
from services.jobs.model import Job
from services.users import grant
from tests.integration.jobs.conftest import LATER, nothing
from tests.support.client import Caller, CallError, connect, outcome, rest, until

CANARY = "canary-in-a-payload"


async def enqueue(roost: Roost, app_id: str, name: str, **options: Any) -> str:
    tenant = await roost.catalogue.get(app_id)
    assert tenant is not None
    with tenant_scope(tenant):
        return await roost.jobs.enqueue(name, {"note": CANARY}, **options)


async def allow(roost: Roost, app_id: str, name: str, *permissions: str) -> None:
    tenant = await roost.catalogue.get(app_id)
    assert tenant is not None
    for permission in permissions:
        await grant(roost.backend.isolation, tenant, name, permission)


@pytest.mark.parametrize("transport", [connect, rest])
async def test_administrators_see_cancel_and_retry_the_jobs_of_their_app(roost: Roost, transport: Any) -> None:
    roost.jobs.handle("note", nothing)
    async with transport(roost, "acme") as ada, transport(roost, "globex") as eve:
        for caller, app_id, name in ((ada, "acme", "ada"), (eve, "globex", "eve@e.example")):
            await caller.sign_up(name, field="email" if "@" in name else "username")
            assert (await outcome(caller, "find", "jobs", {})).code == 403
            await allow(roost, app_id, name, "delete:jobs", "update:jobs", "read:jobs")
        id = await enqueue(roost, "acme", "note", run_at=datetime.now(UTC) + LATER)
        await reached(ada)
        await reached(eve)
        page = await ada.call("find", "jobs", {"state": "scheduled"})
        assert [(job["_id"], job["name"]) for job in page["data"]] == [(id, "note")]
        assert CANARY not in str(page)
        assert (await outcome(eve, "get", "jobs", id, {})).code == 404
        assert (await outcome(eve, "remove", "jobs", id, {})).code == 404
        assert (await eve.call("find", "jobs", {"name": "note"}))["total"] == 0
        assert (await ada.call("remove", "jobs", id, {}))["state"] == "dropped"
        assert (await outcome(ada, "remove", "jobs", id, {})).code == 409
        assert (await ada.call("retry", "jobs", {"id": id}))["attempt"] == 0


async def reached(caller: Caller) -> None:
    """Returns when the permissions that were given have reached the connection."""

    async def allowed() -> bool:
        return not isinstance(await outcome(caller, "find", "jobs", {}), CallError)

    await until(allowed)


async def test_odd_questions_get_clear_answers(roost: Roost) -> None:
    async with connect(roost, "acme") as ada:
        await ada.sign_up("ada")
        await allow(roost, "acme", "ada", "update:jobs", "read:jobs")
        await reached(ada)
        rows: list[tuple[Any, int]] = [
            (ada.call("find", "jobs", {"payload": 1}), 400),
            (ada.call("find", "jobs", {"name": {"$ne": "x"}}), 400),
            (ada.call("find", "jobs", {"$sort": {"name": 1}}), 400),
            (ada.call("get", "jobs", {"$gt": ""}, {}), 400),
            (ada.call("get", "jobs", "nothing", {}), 404),
            (ada.call("retry", "jobs", {"id": "nothing"}), 404),
            (ada.call("retry", "jobs", "nothing"), 400),
            (ada.call("create", "jobs", {"name": "note"}), 405),
        ]
        for call, code in rows:
            with pytest.raises(CallError) as caught:
                await call
            assert caught.value.code == code, caught.value.wire


async def test_what_happens_to_jobs_is_told_to_the_app_alone(roost: Roost) -> None:
    """Events follow the rule of `get`: those who may read jobs, in the app whose job it is."""
    done = asyncio.Event()

    async def work(job: Job) -> None:
        done.set()

    roost.jobs.handle("note", work)
    async with connect(roost, "acme") as ada, connect(roost, "acme") as bob, connect(roost, "globex") as eve:
        for caller, app_id, name in ((ada, "acme", "ada"), (eve, "globex", "eve@e.example")):
            await caller.sign_up(name, field="email" if "@" in name else "username")
            await allow(roost, app_id, name, "read:jobs")
            await reached(caller)
        await bob.sign_up("bob")
        id = await enqueue(roost, "acme", "note")
        await done.wait()
        await until(lambda: len([event for event in ada.events if event.name.startswith("jobs")]) == 3)
        heard = [event for event in ada.events if event.name.startswith("jobs")]
        assert [(event.name, event.record["state"]) for event in heard if event.record["_id"] == id] == [
            ("jobs created", "waiting"),
            ("jobs patched", "running"),
            ("jobs patched", "done"),
        ]
        assert CANARY not in str(heard)
        assert [event for client in (bob, eve) for event in client.events if event.name.startswith("jobs")] == []
