"""TENANCY 3: what the control plane has is copied into every app, whatever happens on the way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hooks.context import Record
from hooks.errors import Unavailable
from hooks.tenant import tenant_scope
from server.main import Roost
from services.control.sync.model import copied
from services.control.sync.source import Source
from services.control.sync.state import Status
from services.entities.registry import ROLES
from services.protection import SyncCapability
from services.users import grant
from tests.integration.control.managers import control_collection
from tests.integration.control.managers import delete as delete_app
from tests.integration.control.managers import make as make_app
from tests.integration.entities.people import TRANSPORTS
from tests.integration.sync.people import (
    CONTROL_PLANE,
    NORTH,
    SOUTH,
    administrator,
    make_person,
    make_role,
    manager,
    person,
    quiet,
    refusal,
    tenant,
)
from tests.support.client import PASSWORD, Caller, Client, connect, fresh, rest, until

pytestmark = pytest.mark.asyncio(loop_scope="module")
each_transport = pytest.mark.parametrize("transport", TRANSPORTS)
WAIT = {"$wait": "sync"}


async def copies(roost: Roost, app: str, collection: str, **chosen: Any) -> list[Record]:
    """The copies that an app has."""
    return await roost.backend.isolation.collection(await tenant(roost, app), collection).find(
        {"is_system": True, **chosen}
    )


async def copy_of(roost: Roost, app: str, collection: str, original: Record) -> Record | None:
    """An app's copy of one original."""
    found = await copies(roost, app, collection, source_id=original["_id"])
    assert len(found) <= 1
    return found[0] if found else None


async def make(caller: Caller, path: str, **data: Any) -> Any:
    """Something new in the control plane, which all apps have."""
    return await caller.call("create", path, data, WAIT)


@each_transport
async def test_a_write_reaches_every_app(served: Roost, transport: str) -> None:
    """SY-2, SY-3, SY-4, SY-13: made, changed and removed; the answer tells of it, with `$wait=sync` what came of it where."""
    async with manager(served, transport) as root:
        role = await make(root, "roles", name=fresh("Editor"), description="edits")
        assert role["sync"]["targets"] == 2
        assert {(row["target"], row["status"]) for row in role["sync"]["results"]} == {
            (NORTH, "synced"),
            (SOUTH, "synced"),
        }
        copy = await copy_of(served, NORTH, "roles", role)
        assert copy is not None
        assert (copy["name"], copy["description"], copy["source_rev"]) == (role["name"], "edits", 1)
        assert str(copy["_id"]) != role["_id"]
        changed = await root.call("patch", "roles", role["_id"], {"name": fresh("Author")}, WAIT)
        again = await copy_of(served, NORTH, "roles", role)
        assert again is not None
        assert (again["_id"], again["name"], again["source_rev"]) == (copy["_id"], changed["name"], 2)
        gone = await root.call("remove", "roles", role["_id"], WAIT)
        assert {row["status"] for row in gone["sync"]["results"]} == {"removed"}
        assert await copy_of(served, NORTH, "roles", role) is None
        plain = await root.call("create", "roles", {"name": fresh()})
        assert {*plain["sync"]} == {"event_id", "targets"}
        assert (await refusal(root, "create", "roles", {"name": fresh()}, {"$wait": "all"})).code == 400


@each_transport
async def test_roles_arrive_with_what_they_allow(served: Roost, transport: str) -> None:
    """SY-6, SY-7: permissions travel as a set per role, after role and resource server; platform words stay at home."""
    async with manager(served, transport) as root:
        server = await make(root, "resource-servers", identifier=fresh("urn:api"), scopes=[{"value": "go"}])
        role = await make(root, "roles", name=fresh("walker"))
        path = f"roles/{role['_id']}/permissions"
        going = await make(root, path, rs_identifier=server["identifier"], permission="go")
        for permission in ("read:users", "read:tenants"):
            await make(root, path, rs_identifier="management", permission=permission)
        copy = await copy_of(served, NORTH, "roles", role)
        assert copy is not None
        link = {"role_id": str(copy["_id"])}

        async def allowed() -> set[str]:
            return {triple["permission"] for triple in await copies(served, NORTH, "role_permissions", **link)}

        assert await allowed() == {"go", "read:users"}
        await root.call("remove", path, going["_id"], WAIT)
        assert await allowed() == {"read:users"}
        await make(root, path, rs_identifier=server["identifier"], permission="go")
        assert await allowed() == {"go", "read:users"}
        # A resource server that goes takes its permissions along; when it comes back, so do they.
        hidden = await root.call("patch", "resource-servers", server["_id"], {"metadata": {"sync": False}}, WAIT)
        assert {row["status"] for row in hidden["sync"]["results"]} == {"withdrawn"}
        assert await allowed() == {"read:users"}
        await root.call("patch", "resource-servers", server["_id"], {"metadata": {}}, WAIT)
        assert await allowed() == {"go", "read:users"}
        await root.call("remove", "roles", role["_id"], WAIT)
        assert await copies(served, NORTH, "role_permissions", **link) == []


async def test_only_what_is_listed_travels(served: Roost) -> None:
    """SY-6: of a connection no credential and no endpoint, of metadata the public part; an unknown option stays at home."""
    marker = "marker-that-must-not-travel"
    async with manager(served) as root:
        made = await make(
            root,
            "connections",
            name=fresh("login"),
            strategy="oidc",
            display_name="Sign in",
            show_as_button=True,
            shareable=True,
            options={"client_id": marker, "issuer": f"https://{marker}.example", "scopes": ["openid"]},
            secrets={"client_secret": marker},
            metadata={"public": {"logo": "x"}, "internal": marker},
        )
        role = await make(root, "roles", name=fresh(), metadata={"secret": marker})
    copy = await copy_of(served, NORTH, "connections", made)
    assert copy is not None
    assert copy["options"] == {"scopes": ["openid"]}
    assert copy["metadata"] == {"public": {"logo": "x"}}
    assert copy["show_as_button"] is True
    assert {"secrets", "shareable"}.isdisjoint(copy)
    assert marker not in str(copy)
    assert marker not in str(await copy_of(served, NORTH, "roles", role))
    async with administrator(served, NORTH) as ada:
        assert marker not in str(await ada.call("get", "connections", str(copy["_id"])))
    # An option that somebody adds to a strategy is not listed as one that travels.
    foreign = {**copy, "_id": made["_id"], "options": {"scopes": [], "brand_new": marker}, "strategy": "oidc"}
    assert copied("connections", foreign)["options"] == {"scopes": []}


async def test_copies_go_and_come_back(served: Roost) -> None:
    """SY-8, 10.4, 7: by `metadata.sync`, and by an app's opt-out of a type or of one name; another app keeps its own."""
    async with manager(served) as root:
        one, other = await make(root, "roles", name="opted-out"), await make(root, "roles", name="opted-in")
        await root.call("patch", "roles", one["_id"], {"metadata": {"sync": False}}, WAIT)
        assert await copy_of(served, NORTH, "roles", one) is None
        await root.call("patch", "roles", one["_id"], {"metadata": {"sync": True}}, WAIT)
        assert await copy_of(served, NORTH, "roles", one) is not None
        for excluded, left in ((["opted-out"], [False, True]), (["roles"], [False, False]), ([], [True, True])):
            await served.backend.configuration.change(NORTH, {"sync_exclude": excluded})
            await quiet(served)
            assert [await copy_of(served, NORTH, "roles", role) is not None for role in (one, other)] == left
            assert await copy_of(served, SOUTH, "roles", one) is not None
        await root.call("remove", "roles", one["_id"], WAIT)
        await root.call("remove", "roles", other["_id"], WAIT)


async def test_names_move_from_one_copy_to_another(served: Roost) -> None:
    """SY-5, 10.4, 4: a rename, a new role with the old name at once, and two that swap theirs: the same documents all along."""
    async with manager(served) as root:
        first, second = fresh("first"), fresh("second")
        a, b = await make(root, "roles", name=first), await make(root, "roles", name=second)
        before = [(await copy_of(served, NORTH, "roles", role) or {})["_id"] for role in (a, b)]
        spare = fresh("spare")
        for id, name in ((a["_id"], spare), (b["_id"], first), (a["_id"], second)):
            await root.call("patch", "roles", id, {"name": name})
        c = await root.call("create", "roles", {"name": spare})
        await quiet(served)
        after = [await copy_of(served, NORTH, "roles", role) or {} for role in (a, b, c)]
        assert [copy["name"] for copy in after] == [second, first, spare]
        assert [copy["_id"] for copy in after[:2]] == before
        for role in (a, b, c):
            await root.call("remove", "roles", role["_id"], WAIT)


@each_transport
async def test_what_an_app_has_itself_is_never_overwritten(served: Roost, transport: str) -> None:
    """SY-5: a name that is taken is a conflict on record; adoption is asked for, and keeps the id that others refer to."""
    name = fresh("mine")
    async with administrator(served, NORTH, transport) as ada, manager(served, transport) as root:
        own = await ada.call("create", "roles", {"name": name, "description": "of the app"})
        role = await make(root, "roles", name=name, description="of the control plane")
        await make(root, f"roles/{role['_id']}/permissions", rs_identifier="management", permission="read:roles")
        rows = await ada.call("find", "sync-status", {"source_id": role["_id"], "entity": "roles"})
        assert [(row["target"], row["status"]) for row in rows["data"]] == [(NORTH, "conflict")]
        assert (await ada.call("get", "roles", own["_id"]))["description"] == "of the app"
        assert await copy_of(served, SOUTH, "roles", role) is not None
        adopted = await root.call(
            "create",
            "sync-status",
            {"tenant_id": NORTH, "entity": "roles", "source_id": role["_id"], "adopt": True},
        )
        assert adopted["counts"] == {"created": 1, "updated": 1}
        now = await ada.call("get", "roles", own["_id"])
        assert (now["is_system"], now["description"], now["source_id"]) == (True, "of the control plane", role["_id"])
        assert (await ada.call("find", f"roles/{own['_id']}/permissions"))["total"] == 1
        assert (await refusal(ada, "patch", "roles", own["_id"], {"description": "x"})).code == 403
        await root.call("remove", "roles", role["_id"], WAIT)


async def test_an_app_that_is_renamed_out_of_the_way_gets_the_copy(served: Roost) -> None:
    """SY-5, SY-7, SY-12: a conflict is over at the next comparison, for the role and for what it allows."""
    name = fresh("blocked")
    async with administrator(served, NORTH) as ada, manager(served) as root:
        own = await ada.call("create", "roles", {"name": name})
        role = await make(root, "roles", name=name)
        dry = await root.call("create", "sync-status", {"tenant_id": NORTH, "entity": "roles", "dry_run": True})
        assert dry["counts"].get("conflict") == 2
        await ada.call("patch", "roles", own["_id"], {"name": fresh("away")})
        dry = await root.call("create", "sync-status", {"tenant_id": NORTH, "entity": "roles", "dry_run": True})
        assert (dry["counts"]["created"], dry["counts"].get("conflict")) == (1, None)
        assert await copy_of(served, NORTH, "roles", role) is None
        own_run = await ada.call("create", "sync-status", {})
        assert own_run["counts"]["created"] == 1
        assert await copy_of(served, NORTH, "roles", role) is not None
        await root.call("remove", "roles", role["_id"], WAIT)


async def test_events_are_heard_where_they_happen(served: Roost) -> None:
    """SY-13, 10.4, 5: an app's own channels, with the app's own record; nothing in the control plane, nothing synced again."""
    reader, _ = await make_person(served, NORTH, "read:roles")
    stranger, _ = await make_person(served, SOUTH)
    async with (
        manager(served, "socket") as root,
        person(served, NORTH, "socket", reader) as north,
        person(served, SOUTH, "socket", stranger) as south,
    ):
        assert isinstance(root, Client)
        assert isinstance(north, Client)
        assert isinstance(south, Client)
        role = await make(root, "roles", name=fresh("loud"))
        await root.call("patch", "roles", role["_id"], {"description": "x"}, WAIT)
        await root.call("remove", "roles", role["_id"], WAIT)
        heard = await north.take_events()
        assert [event.name for event in heard] == ["roles created", "roles patched", "roles removed"]
        assert all(event.record["source_id"] == role["_id"] != event.record["_id"] for event in heard)
        at_home = await root.take_events()
        assert [event.name for event in at_home] == ["roles created", "roles patched", "roles removed"]
        assert all(event.record["_id"] == role["_id"] for event in at_home)
        await south.quiet()
    await quiet(served)
    events = control_collection(served, "sync_events")
    assert await events.count_documents({"source_id": role["_id"]}) == 3


async def test_an_apps_own_writes_are_none_of_the_control_planes(served: Roost) -> None:
    """SY-13: what counts is whose document is written: an app's roles leave no word, whoever writes them."""
    events = control_collection(served, "sync_events")
    before = await events.count_documents({})
    async with administrator(served, NORTH) as ada:
        role = await make_role(ada, "read:users")
        answer = await ada.call("patch", "roles", role, {"description": "own"})
        assert "sync" not in answer
        assert (await refusal(ada, "create", "roles", {"name": fresh(), "sync": {}})).code == 400
    assert await events.count_documents({}) == before
    with tenant_scope(await tenant(served, NORTH)):
        plane = await tenant(served, CONTROL_PLANE)
        await served.people.entities.add(plane, ROLES, {"name": fresh("inside")})
    assert await events.count_documents({}) == before + 1


async def test_the_word_is_kept_with_the_write_or_not_at_all(served: Roost, monkeypatch: pytest.MonkeyPatch) -> None:
    """SY-2: in one transaction: a write that is refused leaves no word, and without the word there is no write."""
    events = control_collection(served, "sync_events")
    async with manager(served) as root:
        role = await make(root, "roles", name=fresh("kept"))
        before = await events.count_documents({})
        assert (await refusal(root, "create", "roles", {"name": role["name"]})).code == 409
        assert await events.count_documents({}) == before

        async def fail(*_: Any, **__: Any) -> None:
            raise Unavailable

        monkeypatch.setattr(served.backend.sync.outbox, "_add", fail)
        assert (await refusal(root, "patch", "roles", role["_id"], {"description": "lost"})).code == 503
        monkeypatch.undo()
        assert "description" not in await root.call("get", "roles", role["_id"])
        await root.call("remove", "roles", role["_id"], WAIT)


async def test_only_managers_wait(served: Roost) -> None:
    """SY-2: `$wait=sync` is for those who may see operations; whoever may only write roles is refused, and nothing written."""
    writer = fresh("writer")
    async with rest(served, CONTROL_PLANE) as http:
        await http.call("create", "users", {"username": writer, "password": PASSWORD})
    await grant(served.backend.isolation, await tenant(served, CONTROL_PLANE), writer, "create:roles")
    name = fresh("unwaited")
    async with rest(served, CONTROL_PLANE) as http:
        await http.login(writer)
        assert (await refusal(http, "create", "roles", {"name": name}, WAIT)).code == 403
        role = await http.call("create", "roles", {"name": name})
        assert role["rev"] == 1


async def test_who_sees_no_apps_learns_nothing_of_them_by_the_sync(served: Roost) -> None:
    """CP-12: who administers the control plane itself sees no list of apps, and hears none in events."""
    name = fresh("reader")
    async with (
        rest(served, CONTROL_PLANE) as http,
        connect(served, CONTROL_PLANE) as socket,
        manager(served) as root,
    ):
        await http.call("create", "users", {"username": name, "password": PASSWORD})
        await grant(served.backend.isolation, await tenant(served, CONTROL_PLANE), name, "tenant:admin")
        await http.login(name)
        await socket.login(name)
        for call in (("find", {}), ("get", f"{NORTH}:roles:x"), ("create", {"tenant_id": NORTH})):
            assert (await refusal(http, call[0], "sync-status", *call[1:])).code == 403
        assert (await refusal(http, "create", "roles", {"name": fresh("unwaited")}, WAIT)).code == 403
        role = await root.call("create", "roles", {"name": fresh("heard")}, WAIT)
        assert role["sync"]["results"]
        event = await socket.next_event()
        assert (event.name, event.record["_id"]) == ("roles created", role["_id"])
        assert event.record["sync"].keys() == {"event_id", "targets"}


async def test_a_new_app_has_everything_before_it_is_ready(served: Roost) -> None:
    """SY-9, SY-11, CP-21: backfill of roles, permissions, servers and connections is a part of its making."""
    async with manager(served) as root:
        server = await make(root, "resource-servers", identifier=fresh("urn:new"), scopes=[{"value": "go"}])
        role = await make(root, "roles", name=fresh("newcomer"))
        await make(root, f"roles/{role['_id']}/permissions", rs_identifier=server["identifier"], permission="go")
        connection = await make(root, "connections", name=fresh("new"), strategy="google")
    operation = await make_app(served, "newcomer")
    assert operation.state == "succeeded"
    names = [step["name"] for step in operation.steps]
    assert [name for name in names if name.startswith("backfill:")] == [
        "backfill:resource-servers",
        "backfill:roles",
        "backfill:role-permissions",
        "backfill:connections",
    ]
    for collection, original in (("resource_servers", server), ("roles", role), ("connections", connection)):
        assert await copy_of(served, "newcomer", collection, original) is not None
    assert len(await copies(served, "newcomer", "role_permissions", rs_identifier=server["identifier"])) == 1
    assert (await served.backend.sync.runs.one(await tenant(served, "newcomer"))).counts.keys() == {"unchanged"}
    await delete_app(served, "newcomer")
    assert await served.backend.sync.state.count({"target": "newcomer"}) == 0


async def test_roles_of_a_copy_are_taken_back_with_it(served: Roost) -> None:
    """SY-8: nobody keeps a role that is not there any more; overrides go with their connection."""
    _, user = await make_person(served, NORTH)
    async with manager(served) as root, administrator(served, NORTH) as ada:
        role = await make(root, "roles", name=fresh("lent"))
        connection = await make(root, "connections", name=fresh("lent"), strategy="github")
        copy, door = (
            await copy_of(served, NORTH, "roles", role),
            await copy_of(served, NORTH, "connections", connection),
        )
        assert copy is not None
        assert door is not None
        await ada.call("create", "user-roles", {"user_id": user, "role_id": str(copy["_id"])})
        await ada.call("create", "connection-overrides", {"connection_id": str(door["_id"]), "enabled": False})
        await root.call("patch", "connections", connection["_id"], {"display_name": "New"}, WAIT)
        assert (await ada.call("find", "connection-overrides"))["data"][0]["enabled"] is False
        await root.call("remove", "roles", role["_id"], WAIT)
        await root.call("remove", "connections", connection["_id"], WAIT)
        assert (await ada.call("find", "user-roles", {"role_id": str(copy["_id"])}))["total"] == 0
        assert (await ada.call("find", "connection-overrides"))["total"] == 0


@each_transport
async def test_the_status_is_shown_to_whom_it_concerns(served: Roost, transport: str) -> None:
    """SY-10, 10.2: the control plane sees all rows, an app its own; a run over all apps goes on in the background."""
    async with manager(served, transport) as root, administrator(served, NORTH, transport) as ada:
        role = await make(root, "roles", name=fresh("shown"))
        rows = await root.call("find", "sync-status", {"source_id": role["_id"], "entity": "roles"})
        assert {row["target"] for row in rows["data"]} == {NORTH, SOUTH}
        assert rows["oldest_unsynced"] == 0
        own = await ada.call("find", "sync-status", {"source_id": role["_id"], "entity": "roles"})
        assert [row["target"] for row in own["data"]] == [NORTH]
        foreign = f"{SOUTH}:roles:{role['_id']}"
        assert (await root.call("get", "sync-status", foreign))["status"] == "synced"
        assert (await refusal(ada, "get", "sync-status", foreign)).code == 404
        assert (await ada.call("find", "sync-status", {"target": SOUTH}))["total"] == 0
        assert (await refusal(ada, "create", "sync-status", {"tenant_id": SOUTH})).code == 403
        assert (await refusal(ada, "create", "sync-status", {"tenant_id": "*"})).code == 403
        for wrong in ({"entity": "users"}, {"unknown": 1}, {"adopt": True}, {"tenant_id": NORTH, "adopt": True}):
            assert (await refusal(root, "create", "sync-status", wrong)).code == 400
        assert (await refusal(root, "create", "sync-status", {"tenant_id": "nowhere"})).code == 404
        assert (await refusal(root, "find", "sync-status", {"error": "x"})).code == 400
        run = await root.call("create", "sync-status", {"tenant_id": "*", "dry_run": True})
        assert run["state"] == "running"

        async def is_done() -> bool:
            return bool((await root.call("get", "sync-status", run["_id"]))["state"] == "done")

        await until(is_done)
        done = await root.call("get", "sync-status", run["_id"])
        assert done["failed"] == 0
        assert {*done["counts"]} == {"unchanged"}
        await root.call("remove", "roles", role["_id"], WAIT)


async def test_what_is_late_brings_nothing_back(served: Roost) -> None:
    """SY-4, 10.4, 2: an old snapshot, applied again after an update and after the removal, by two workers at once."""
    sync, north = served.backend.sync, await tenant(served, NORTH)
    plane = await tenant(served, CONTROL_PLANE)
    async with manager(served) as root:
        role = await make(root, "roles", name=fresh("early"))
        item = ("roles", role["_id"])
        old = Source(served.backend.isolation, plane)
        await old.get(*item)
        renamed = await root.call("patch", "roles", role["_id"], {"name": fresh("late")}, WAIT)
        for _ in range(2):
            await asyncio.gather(*(sync.mending.some(old, north, [item]) for _ in range(2)))
        copy = await copy_of(served, NORTH, "roles", role)
        assert copy is not None
        assert (copy["name"], copy["source_rev"]) == (renamed["name"], 2)
        await root.call("remove", "roles", role["_id"], WAIT)
        for _ in range(2):
            accounts = await asyncio.gather(*(sync.mending.some(old, north, [item]) for _ in range(2)))
            assert [row.status for account in accounts for row in account.rows] == [Status.REMOVED] * 2
        assert await copy_of(served, NORTH, "roles", role) is None
        row = (await sync.state.find({"target": NORTH, "source_id": role["_id"], "entity": "roles"}))[0]
        assert row["status"] == "removed"
        # Without the tombstone it would be made, seen to be gone, and taken away again.
        await control_collection(served, "sync_state").delete_one({"_id": row["_id"]})
        await sync.mending.some(old, north, [item])
        assert await copy_of(served, NORTH, "roles", role) is None


async def test_two_workers_make_one_copy(served: Roost) -> None:
    """SY-4, 10.4, 3: whoever comes second finds it there, and fails nobody."""
    sync, plane = served.backend.sync, await tenant(served, CONTROL_PLANE)
    async with manager(served) as root:
        role = await make(root, "roles", name=fresh("twin"))
        path = f"roles/{role['_id']}/permissions"
        await make(root, path, rs_identifier="management", permission="read:users")
        for app in (NORTH, SOUTH):
            target = await tenant(served, app)
            copy = await copy_of(served, app, "roles", role)
            assert copy is not None
            copied_roles = served.backend.isolation.copies(target, "roles", SyncCapability())
            await copied_roles.delete_many({"_id": copy["_id"]})
            items = [("roles", role["_id"]), ("role_permissions", role["_id"])]
            accounts = await asyncio.gather(
                *(
                    sync.mending.some(Source(served.backend.isolation, plane), target, items, patience=20)
                    for _ in range(4)
                )
            )
            assert all(account.is_complete for account in accounts)
            copy = await copy_of(served, app, "roles", role)
            assert copy is not None
            assert len(await copies(served, app, "role_permissions", role_id=str(copy["_id"]))) == 1
        await root.call("remove", "roles", role["_id"], WAIT)
