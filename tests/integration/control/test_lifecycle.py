"""The life of a tenant as a recorded saga (TENANCY CP-20 to CP-28): done, failed, tried again, taken up after a crash."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from hooks.errors import BadRequest, Conflict, Forbidden, NotFound
from hooks.tenant import RESERVED_IDS, Tenant
from server.main import Roost
from services.control.lifecycle import AT_THE_SERVER, Actor
from services.control.operations import FAILED, SUCCEEDED, WAITING
from services.control.purge import CONTROL_FIELDS, CONTROL_KEPT
from services.control.sagas import DELETE, PROVISION, Step, Work
from services.declaration import Declaration
from services.tenant_hooks import Data, TenantCall
from tests.conftest import StartRoost
from tests.integration.control.managers import control_collection, declared, delete, make, stand_in, state
from tests.integration.server.command import ROOT, environment
from tests.support.client import CallError, connect, handshake, outcome, rest, until
from tests.support.placed import database_of


async def test_creating_runs_every_step_and_records_it(roost: Roost) -> None:
    """CP-20, CP-21: an operation with its events; the app is served when the last step is done."""
    operation = await make(roost, "initech", services={"notes": {"rules": {"default": "public"}}})
    assert operation.state == SUCCEEDED
    names = [step["name"] for step in operation.steps]
    assert names == [*roost.backend.control.sagas.names(PROVISION)]
    assert names[-2:] == ["ready", "after-hooks"]
    events = await roost.backend.control.operations.events(operation.id)
    told = [(event["step"], event["event"]) for event in events]
    assert told == [pair for name in names for pair in ((name, "started"), (name, SUCCEEDED))]
    async with rest(roost, "initech") as client:
        await client.call("create", "notes", {"text": "hello"})
    with pytest.raises(Conflict):
        await make(roost, "initech")


@pytest.mark.parametrize("status", ["provisioning", "suspended", "deleting", "failed"])
async def test_only_a_ready_app_is_served(roost: Roost, status: str) -> None:
    """CP-20: everything else answers 403 with the state."""
    await control_collection(roost, "tenants").update_one(
        {"_id": "acme"}, {"$set": {"status": status}, "$inc": {"epoch": 1}}
    )

    async def refused() -> bool:
        async with rest(roost, "acme") as client:
            found = await outcome(client, "find", "notes")
        if not isinstance(found, CallError):
            return False
        assert ("try again" in str(found)) == (status == "provisioning"), "what passes by itself is told as such"
        return found.code == 403 and found.data["state"] == status

    await until(refused)


async def test_a_step_that_fails_leaves_the_app_failed_and_is_tried_again(roost: Roost) -> None:
    """CP-22: the step and its error are told; the next attempt goes on there, without doing the steps before it again.

    CP-20: between the attempts the app is `failed`, and while it is tried `provisioning`.
    """
    control = roost.backend.control
    control.runner._pause = 60.0
    broken = True
    done: list[str] = []
    states: list[str | None] = []

    async def organization(work: Work) -> None:
        done.append(work.tenant.id)

    async def client(work: Work) -> None:
        states.append(await state(roost, work.tenant.id))
        if broken:
            raise Conflict("no client today")

    stand_in(roost, PROVISION, "settings", organization)
    stand_in(roost, PROVISION, "backfill:roles", client)
    operation = await make(roost, "initech")
    assert (operation.state, operation.attempts) == (WAITING, 1)
    assert operation.error == {"step": "backfill:roles", "message": "no client today"}
    assert await state(roost, "initech") == "failed"
    broken = False
    again = await control.lifecycle.settle((await control.lifecycle.retry("initech", PROVISION)).id)
    assert (again.id, again.state, again.error) == (operation.id, SUCCEEDED, None)
    assert await state(roost, "initech") == "ready"
    assert done == ["initech"]
    assert states == ["provisioning", "provisioning"]
    with pytest.raises(Conflict):
        await control.lifecycle.retry("initech", PROVISION)


async def test_failures_are_tried_again_by_themselves_until_it_is_enough(
    roost: Roost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CP-22: with growing pauses; what nobody can name in a sentence is in the log alone."""
    monkeypatch.setattr("services.control.runner.MOST_ATTEMPTS", 3)
    monkeypatch.setattr("services.control.runner.LOOK", 0.02)
    control = roost.backend.control
    control.runner._pause = 0.01
    await control.runner.start()

    async def client(work: Work) -> None:
        raise RuntimeError("the password is canary-123")

    stand_in(roost, PROVISION, "settings", client)
    made = await make(roost, "initech")

    async def over() -> bool:
        found = await control.operations.get(made.id)
        return found is not None and found.state == FAILED

    await until(over)
    found = await control.operations.get(made.id)
    assert found is not None
    assert found.attempts == 3
    assert "canary" not in str(found.shown())
    events = await control.operations.events(made.id)
    assert [event["attempt"] for event in events if event["event"] == "failed"] == [1, 2, 3]


async def test_asking_again_with_the_same_key_makes_one_app(roost: Roost) -> None:
    """CP-22: the same creator and key get the same operation; others a conflict."""
    lifecycle = roost.backend.control.lifecycle
    ada, eve = Actor("ada", "rest"), Actor("eve", "rest")
    both = await asyncio.gather(*(lifecycle.create(declared("initech"), ada, idempotency_key="k1") for _ in range(2)))
    assert both[0].id == both[1].id
    assert (await lifecycle.create(declared("initech"), ada, idempotency_key="k1")).id == both[0].id
    for actor, key in ((eve, "k1"), (ada, "k2"), (ada, None)):
        with pytest.raises(Conflict):
            await lifecycle.create(declared("initech"), actor, idempotency_key=key)


async def test_many_who_make_the_same_app_at_once_make_one(roost: Roost) -> None:
    """CP-21: one tenant row, one operation, one signing key set."""
    found = await asyncio.gather(*(make(roost, "initech") for _ in range(5)), return_exceptions=True)
    made = [one for one in found if not isinstance(one, BaseException)]
    assert len(made) == 1
    assert all(isinstance(one, Conflict) for one in found if one not in made)
    assert await control_collection(roost, "tenant_operations").count_documents({"app_id": "initech"}) == 1


@pytest.mark.parametrize("id", [*sorted(RESERVED_IDS)[:4], "_dmarc", "UPPER", "ab", "-abc", "abc-", "a" * 64, "a.b"])
async def test_ids_that_no_app_may_have(roost: Roost, id: str) -> None:
    """CP-5: the grammar, and the names that are the server's own."""
    with pytest.raises(BadRequest):
        await roost.backend.tenants.check_new(id)


async def test_reserved_ids_are_configurable_and_refuse_a_file_as_a_whole(roosts: StartRoost) -> None:
    """CP-5: nothing of a declaration is applied when one of its apps may not be made."""
    roost = await roosts(reserved_ids="initech,hooli")
    with pytest.raises(BadRequest, match="reserved"):
        await roost.backend.apply(Declaration(tenants=(declared("umbrella"), declared("initech"))))
    assert await state(roost, "umbrella") is None
    await make(roost, "www")


async def test_before_hooks_may_veto_and_change(roost: Roost) -> None:
    """CP-26, CP-27: in their order, for whoever makes the app; their error is the caller's, and nothing is written."""
    calls: list[TenantCall] = []

    async def rename(call: TenantCall, data: Data) -> Data:
        calls.append(call)
        return {**data, "name": "Renamed"}

    async def check(call: TenantCall, data: Data) -> None:
        if data["name"] != "Renamed":
            raise BadRequest("the first hook has not run")
        if call.app_id == "hooli":
            raise Forbidden("not this one")

    roost.app.tenants.hooks(before_create=rename)
    roost.app.tenants.hooks(before_create=check)
    await make(roost, "initech", Actor("ada", "rest"))
    made = await roost.backend.tenants.get("initech")
    assert made is not None
    assert made.name == "Renamed"
    assert calls == [TenantCall("initech", "ada", "rest")]
    with pytest.raises(Forbidden, match="not this one"):
        await make(roost, "hooli")
    assert await state(roost, "hooli") is None
    assert await roost.backend.control.operations.latest("hooli") is None


async def test_after_hooks_cannot_undo_what_is_done(roost: Roost, monkeypatch: pytest.MonkeyPatch) -> None:
    """CP-26: each by itself and again where it fails; what fails for good stands in the operation."""
    monkeypatch.setattr("services.control.steps.HOOK_PAUSE", 0.0)
    tries: list[str] = []

    async def greet(call: TenantCall, tenant: Tenant) -> None:
        tries.append(tenant.id)
        if len(tries) < 2:
            raise RuntimeError("once")

    async def fail(call: TenantCall, tenant: Tenant) -> None:
        raise RuntimeError("always")

    roost.app.tenants.hooks(after_create=fail)
    roost.app.tenants.hooks(after_create=greet, after_delete=greet)
    operation = await make(roost, "initech")
    assert operation.state == SUCCEEDED
    assert tries == ["initech", "initech"]
    (failed,) = operation.notes["hook_failures"]
    assert failed.endswith("fail")
    assert (await delete(roost, "initech")).state == SUCCEEDED
    assert tries[2:] == ["initech"]


async def test_a_hook_may_keep_an_app_from_being_deleted(roost: Roost) -> None:
    """CP-26: the app goes on as it was."""

    async def keep(call: TenantCall) -> None:
        raise Forbidden("this app stays")

    roost.app.tenants.hooks(before_delete=keep)
    with pytest.raises(Forbidden, match="stays"):
        await roost.backend.control.lifecycle.delete("acme")
    assert await state(roost, "acme") == "ready"


async def test_the_control_plane_can_be_neither_deleted_nor_suspended(roost: Roost) -> None:
    """CP-2: before anything else is looked at."""
    lifecycle = roost.backend.control.lifecycle
    with pytest.raises(Forbidden, match="Cannot delete the control plane"):
        await lifecycle.delete("control_plane")
    with pytest.raises(Forbidden, match="Cannot suspend the control plane"):
        await lifecycle.suspend("control_plane")
    plane = await roost.backend.tenants.get("control_plane")
    assert plane is not None
    with pytest.raises(Forbidden, match="control plane"):
        await roost.backend.control.purge.data(plane, lambda name, count: asyncio.sleep(0))
    with pytest.raises(NotFound):
        await lifecycle.delete("nobody")


async def test_a_suspended_app_tells_its_sockets_why_and_comes_back(roost: Roost) -> None:
    """CP-20, 10.4/17: a last event with the reason, and a disconnect after which clients stay away; then all is as before."""
    control = roost.backend.control
    async with connect(roost, "acme") as ours, connect(roost, "globex") as theirs:
        await ours.call("create", "notes", {"text": "kept"})
        await control.lifecycle.settle((await control.lifecycle.suspend("acme")).id)
        assert (await ours.next_event()).name == "notes created"
        event = await ours.next_event()
        assert (event.name, event.record) == (
            "tenant:unavailable",
            {"reason": "TenantUnavailable", "state": "suspended"},
        )
        await ours.gone()
        assert (await theirs.call("find", "notes")) == []
    kind, answer = await handshake(roost, "appId=acme")
    assert (kind, answer["data"]["data"]) == ("refused", {"reason": "TenantUnavailable", "state": "suspended"})
    with pytest.raises(Conflict):
        await control.lifecycle.suspend("acme")
    await control.lifecycle.settle((await control.lifecycle.resume("acme")).id)

    async def served() -> bool:
        async with rest(roost, "acme") as client:
            return not isinstance(await outcome(client, "find", "notes"), CallError)

    await until(served)


async def test_deleting_goes_step_by_step_and_never_past_a_failed_one(roost: Roost) -> None:
    """CP-25: the state stays `deleting` with the error; the organization is still there for who tries again."""
    control = roost.backend.control
    control.runner._pause = 60.0
    broken = True
    order: list[str] = []

    async def export(work: Work) -> None:
        order.append("export")
        if broken:
            raise Conflict("the disk is full")

    stand_in(roost, DELETE, "export", export)
    steps = control.sagas.names(DELETE)
    assert steps.index("sockets") < steps.index("tokens") < steps.index("export") < steps.index("purge")
    assert steps.index("purge") < steps.index("keys") < steps.index("domains") < steps.index("organization")
    assert steps.index("organization") < steps.index("tombstone")
    begun = await control.lifecycle.delete("acme")
    waiting = await control.lifecycle.settle(begun.id)
    assert (waiting.state, waiting.error) == (WAITING, {"step": "export", "message": "the disk is full"})
    assert await state(roost, "acme") == "deleting"
    assert order == ["export"]
    broken = False
    again = await control.lifecycle.delete("acme")
    assert again.id == begun.id
    assert (await control.lifecycle.settle(again.id)).state == SUCCEEDED
    assert order == ["export", "export"]
    assert await state(roost, "acme") is None


async def test_a_step_sees_what_those_before_it_have_noted(roost: Roost) -> None:
    """However quick they were: what counts on goes on counting."""
    control, seen = roost.backend.control, list[Any]()

    async def count(work: Work) -> None:
        seen.append(work.operation.notes.get("count", 0))
        await work.note(count=seen[-1] + 1)

    control.sagas.define("count", *(Step(name, count) for name in ("one", "two", "three")))
    operation = await control.lifecycle.settle((await control.lifecycle.begin("acme", "count", AT_THE_SERVER)).id)
    assert operation.state == SUCCEEDED, operation.error
    assert seen == [0, 1, 2]
    assert operation.notes["count"] == 3


async def test_after_a_deletion_nothing_carries_the_id_and_nobody_gets_it_again(roost: Roost) -> None:
    """CP-28, CP-6: no document of any collection, and a tombstone. Another app with the same records keeps all of its own."""
    for app in ("acme", "globex"):
        async with rest(roost, app) as client:
            name = "username" if app == "acme" else "email"
            await client.call("create", "users", {name: "ada@example.com", "password": "secret-123"})
            for number in range(3):
                await client.call("create", "notes", {"n": number})
    await roost.backend.secrets.put("acme", "github", "canary")
    await control_collection(roost, "domains").insert_one({"app_id": "acme", "host": "acme.example"})
    await roost.backend.audit.settled()
    ours, theirs = database_of(roost, "acme"), database_of(roost, "globex")
    before = await held(roost, "globex", theirs)
    assert before["notes"] == 3
    operation = await delete(roost, "acme")
    assert operation.state == SUCCEEDED, operation.error
    assert operation.notes["purged"]["notes"] == 3
    await roost.backend.audit.settled()
    assert await held(roost, "acme", ours) == {}
    assert await held(roost, "globex", theirs) == before
    with pytest.raises(BadRequest, match="not used again"):
        await make(roost, "acme")
    async with rest(roost, "acme") as client:
        found = await outcome(client, "find", "notes")
    assert isinstance(found, CallError)
    assert found.code == 404


async def held(roost: Roost, app_id: str, home: Any) -> Mapping[str, int]:
    """How many documents of an app there are, by collection, in every collection of both databases and of its own, `home`."""
    client, name = roost.backend.deployment.client, roost.settings.database
    found: dict[str, int] = {}
    for database in (client[name], *([] if home.name == name else [home])):
        for collection in await database.list_collection_names():
            if count := await database[collection].count_documents({"app_id": app_id}):
                found[collection] = found.get(collection, 0) + count
    own = {"$or": [{"app_id": app_id}, {"_id": app_id}, {"_id.app_id": app_id}, {"target": app_id}]}
    control = client[f"{name}_control"]
    for collection in {*await control.list_collection_names()} - CONTROL_KEPT:
        if count := await control[collection].count_documents(own):
            found[collection] = count
    return found


async def test_every_collection_of_the_control_plane_has_a_rule_for_deletions(roost: Roost) -> None:
    """CP-28: a new collection that says nothing fails here."""
    await roost.backend.secrets.put("acme", "github", "canary")
    database = roost.backend.deployment.client[f"{roost.settings.database}_control"]
    names = {name for name in await database.list_collection_names() if not name.startswith("system.")}
    assert names - CONTROL_FIELDS.keys() - CONTROL_KEPT == set()


KILLED = """
import asyncio
from services import declaration
from services.control import operations, sagas
from server.backend import open_backend
from server.settings import load

operations.LEASE_MS = 1000

async def main():
    async with open_backend(load()) as backend:
        async def block(work):
            print("blocked", flush=True)
            await asyncio.sleep(60)
        backend.control.sagas._steps[sagas.PROVISION]["settings"] = sagas.Step("settings", block)
        (one,) = declaration.check({"tenants": [{"id": "initech"}]}).tenants
        await backend.control.lifecycle.create(one)

asyncio.run(main())
"""


async def test_a_killed_process_leaves_what_another_one_brings_to_its_end(roost: Roost, mongod: str) -> None:
    """CP-21: after kill -9 in the middle of a step the lease runs out, and a server goes on with that step."""
    done: list[str] = []

    async def client(work: Work) -> None:
        done.append(work.tenant.id)

    stand_in(roost, PROVISION, "settings", client)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        KILLED,
        cwd=ROOT,
        env=environment(mongod, roost.settings.database),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(30):
        assert await process.stdout.readline() == b"blocked\n"
    assert await state(roost, "initech") == "provisioning"

    async def recorded() -> bool:
        begun = await roost.backend.control.operations.latest("initech")
        return begun is not None and {"settings": 1}.items() <= {s["name"]: s["attempts"] for s in begun.steps}.items()

    await until(recorded)
    process.kill()
    await process.wait()

    async def ready() -> bool:
        return await state(roost, "initech") == "ready"

    await until(ready, seconds=10)
    assert done == ["initech"]
    begun = await roost.backend.control.operations.latest("initech")
    assert begun is not None
    operation = await roost.backend.control.lifecycle.settle(begun.id)
    attempts = {step["name"]: step["attempts"] for step in operation.steps}
    assert attempts["settings"] == 2
    assert {count for name, count in attempts.items() if name != "settings"} == {1}


async def test_two_nodes_share_the_work_and_none_does_it_twice(roosts: StartRoost) -> None:
    """CP-21: the lease admits one at a time; who has lost it changes nothing any more."""
    first = await roosts()
    second = await roosts(database=first.settings.database)
    done: list[str] = []

    async def client(work: Work) -> None:
        done.append(work.tenant.id)
        await asyncio.sleep(0.05)

    for roost in (first, second):
        stand_in(roost, PROVISION, "settings", client)
    operation = await first.backend.control.operations.begin(
        "acme", PROVISION, first.backend.control.sagas.names(PROVISION), actor="operator"
    )
    ended = await asyncio.gather(
        *(roost.backend.control.lifecycle.settle(operation) for roost in (first, second, first, second))
    )
    assert {one.state for one in ended} == {SUCCEEDED}
    assert done == ["acme"]
