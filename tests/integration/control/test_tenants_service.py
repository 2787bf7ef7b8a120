"""The service `tenants` over both transports (TENANCY CP-2, CP-5, CP-10 to CP-16, CP-22, TC-12): who sees and does what."""

from __future__ import annotations

from typing import Any

import pytest

from hooks.errors import FeathersError, Forbidden, NotFound
from server.main import Roost
from tests.integration.control.managers import (
    call_as,
    caller_of,
    code,
    hold_deletions,
    join,
    log_in_as_admin,
    make,
    manager,
    state,
)
from tests.support.client import PASSWORD, connect, fresh, outcome, rest, until
from tests.support.placed import database_of
from tests.support.roost import CONTROL_PLANE

BOTH = pytest.mark.parametrize("transport", ["socketio", "rest"])
ORG = {"app_id": CONTROL_PLANE, "org_id": "org_1"}


@BOTH
async def test_apps_are_made_listed_changed_and_deleted(roost: Roost, transport: str) -> None:
    """CP-10, CP-14, CP-15, CP-16: the whole life of an app, as its managers see it."""
    async with caller_of(roost, transport) as client:
        await manager(roost, client, "read:tenants", "create:tenants", "update:tenants", "delete:tenants")
        made = await client.call(
            "create",
            "tenants",
            {
                "id": "initech",
                "friendly_name": "Initech",
                "plan": "gold",
                "allowed_origins": ["https://initech.example"],
            },
        )
        assert (made["_id"], made["friendly_name"], made["status"], made["plan"]) == (
            "initech",
            "Initech",
            "ready",
            "gold",
        )
        assert made["audience"] == "urn:roost:tenant:initech"
        page = await client.call("find", "tenants")
        assert {one["_id"] for one in page["data"]} == {"acme", "globex", "initech", CONTROL_PLANE}
        assert (page["total"], page["limit"], page["skip"]) == (4, 50, 0)
        changed = await client.call(
            "patch", "apps", "initech", {"friendly_name": "Initech 2"}, {"epoch": made["epoch"]}
        )
        assert changed["friendly_name"] == "Initech 2"
        assert changed["epoch"] > made["epoch"]
        assert (await client.call("get", "tenants", "initech"))["friendly_name"] == "Initech 2"
        operation = await client.call("remove", "tenants", "initech", {"confirm": "initech"})
        assert (operation["kind"], operation["tenant_id"]) == ("delete", "initech")

        async def gone() -> bool:
            return await state(roost, "initech") is None

        await until(gone)
        assert await code(client, "get", "tenants", "initech") == 404
        assert await code(client, "create", "tenants", {"id": "initech", "friendly_name": "Again"}) == 400


async def test_statuses_over_rest(roost: Roost) -> None:
    """CP-14, CP-15, CP-16, CP-22: 201, 200 for the same key, 202 with the same operation, and 405 for what is disabled."""
    hold_deletions(roost)
    async with rest(roost, CONTROL_PLANE) as client:
        answer = await log_in_as_admin(client)
        client.headers["Authorization"] = f"Bearer {answer['accessToken']}"
        body = {"id": "initech", "friendly_name": "Initech"}
        keyed = {"Idempotency-Key": "k-1"}
        first = await client.request("POST", "/tenants", body, headers=keyed)
        second = await client.request("POST", "/tenants", body, headers=keyed)
        assert (first.status, second.status) == (201, 200)
        assert first.json["_id"] == second.json["_id"] == "initech"
        other = await client.request("POST", "/tenants", {"id": "hooli", "friendly_name": "H"}, headers=keyed)
        assert other.status == 409
        assert (await client.request("POST", "/tenants", body)).status == 409
        generated = await client.request("POST", "/tenants", {"friendly_name": "Große Straße & Co"})
        assert generated.json["_id"].startswith("groe-strae-co-") or generated.json["_id"].startswith("gro")
        for verb, path in (("PUT", "/tenants/initech"), ("PATCH", "/tenants"), ("DELETE", "/tenants")):
            assert (await client.request(verb, path, {} if verb != "DELETE" else None)).status == 405
        unconfirmed = await client.request("DELETE", "/tenants/initech")
        assert (unconfirmed.status, unconfirmed.json["name"]) == (400, "BadRequest")
        assert await state(roost, "initech") == "ready"
        begun = await client.request("DELETE", "/tenants/initech?confirm=initech")
        again = await client.request("DELETE", "/tenants/initech?confirm=initech")
        assert (begun.status, again.status) == (202, 202)
        assert begun.json["_id"] == again.json["_id"]
        assert (await client.call("get", "tenants", "initech"))["status"] == "deleting"
        plane = await client.request("DELETE", f"/tenants/{CONTROL_PLANE}?confirm={CONTROL_PLANE}")
        assert (plane.status, plane.json["message"]) == (403, "Cannot delete the control plane")


@BOTH
async def test_pages_are_counted_ordered_and_bounded(roost: Roost, transport: str) -> None:
    """CP-10, CP-11: the total after the query in every branch, a prefix of the name, an order that ends with the id."""
    for number in range(4):
        await make(roost, f"initech-{number}", name="Initech" if number else "In.tech", plan="gold")
    async with caller_of(roost, transport) as client:
        await manager(roost, client, "read:tenants")
        first = await client.call("find", "tenants", {"plan": "gold", "$sort": {"plan": 1}, "$limit": 2})
        second = await client.call("find", "tenants", {"plan": "gold", "$sort": {"plan": 1}, "$limit": 2, "$skip": 2})
        assert [one["_id"] for one in [*first["data"], *second["data"]]] == [f"initech-{n}" for n in range(4)]
        assert (first["total"], second["total"]) == (4, 4)
        named = await client.call("find", "tenants", {"friendly_name": "In."})
        assert [one["_id"] for one in named["data"]] == ["initech-0"]
        several = await client.call(
            "find", "tenants", {"_id": {"$in": ["acme", "globex", "nobody"]}, "status": "ready"}
        )
        assert several["total"] == 2
        since = await client.call("find", "tenants", {"created_at": {"$gte": named["data"][0]["created_at"]}})
        assert since["total"] == 4
        assert (await client.call("find", "tenants", {"$limit": 1000}))["limit"] == 100
        none = await client.call("find", "tenants", {"$limit": 0})
        assert (none["total"], none["data"]) == (7, [])


@BOTH
async def test_who_is_no_manager_sees_only_what_he_belongs_to(roost: Roost, transport: str) -> None:
    """CP-12, CP-13: the total too; 404 for what exists and for what does not, and nothing to tell them apart by."""
    async with caller_of(roost, transport) as client:
        own = await manager(roost, client, "create:tenants")
        await client.call("create", "tenants", {"id": "initech", "friendly_name": "Initech"})
        page = await client.call("find", "tenants")
        assert ([one["_id"] for one in page["data"]], page["total"]) == (["initech"], 1)
        assert page["data"][0]["created_by"] == own
        assert (await client.call("find", "tenants", {"_id": {"$in": ["acme", "initech"]}}))["total"] == 1
        errors = [await outcome(client, "get", "tenants", id) for id in ("acme", "nobody")]
        assert [(error.code, error.message.replace("nobody", "acme")) for error in errors] == [
            (404, "No record found for id 'acme'")
        ] * 2
        for method, arguments in (("patch", ({"plan": "gold"},)), ("remove", ())):
            for id in ("acme", "nobody"):
                assert await code(client, method, "tenants", id, *arguments) == 404
            assert await code(client, method, "tenants", "initech", *arguments) == 403


@BOTH
async def test_nobody_but_the_control_planes_users_may_ask(roost: Roost, transport: str) -> None:
    """CP-4, CP-12, CP-14: a child's own administrator with every permission, and a stranger, whatever they are called."""
    async with caller_of(roost, transport, "acme") as client:
        for method, arguments in CALLS:
            assert await code(client, method, "tenants", *arguments) == 401
        name = fresh("boss")
        await client.call("create", "users", {"username": name, "password": PASSWORD})
        users = database_of(roost)["users"]
        everything = ["tenant:admin", "admin", "read:tenants", "create:tenants", "update:tenants", "delete:tenants"]
        await users.update_one({"app_id": "acme", "username_key": name}, {"$set": {"permissions": everything}})
        await client.login(name)
        for path in ("tenants", "apps"):
            for method, arguments in CALLS:
                assert await code(client, method, path, *arguments) == 403
        assert await code(client, "find", "tenant-operations") == 403
        assert await code(client, "create", "tenant-operations", {"kind": "suspend", "tenant_id": "globex"}) == 403
    assert await state(roost, "globex") == "ready"


CALLS: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("find", ()),
    ("get", ("globex",)),
    ("create", ({"id": "initech", "friendly_name": "Initech"},)),
    ("patch", ("globex", {"plan": "gold"})),
    ("remove", ("globex", {"confirm": "globex"})),
)


async def test_the_same_sub_of_another_issuer_is_somebody_else(roost: Roost) -> None:
    """CP-12's trap: a child's token whose `sub` equals that of a user of the control plane opens nothing of his."""
    async with rest(roost, CONTROL_PLANE) as client:
        sub = await manager(roost, client)
    await join(roost, sub, "globex")
    everything = ["read:tenants", "delete:tenants", "update:tenants"]
    for claims in ({"sub": sub, "app_id": "acme", "tid": "acme"}, {"sub": sub, "tid": "acme", "org_id": "globex"}):
        for method, extra in (("find", {}), ("get", {"id": "globex"}), ("remove", {"id": "globex"})):
            with pytest.raises(Forbidden):
                await call_as(roost, method, "tenants", claims, everything, query={"confirm": "globex"}, **extra)


async def test_a_token_for_an_organization_is_about_its_own_tenant(roost: Roost) -> None:
    """CP-12, CP-15, CP-16, 1.4: what the roles there allow, for that tenant; membership is asked at every call (TK-9)."""
    hold_deletions(roost)
    async with rest(roost, CONTROL_PLANE) as client:
        sub = await manager(roost, client)
    await join(roost, sub, "acme", "globex")
    claims = {**ORG, "sub": sub, "tid": "acme"}
    page = await call_as(roost, "find", "tenants", claims, ["read:tenants"])
    assert [one["_id"] for one in page["data"]] == ["acme"]
    with pytest.raises(NotFound):
        await call_as(roost, "get", "tenants", claims, ["read:tenants"], id="globex")
    with pytest.raises(Forbidden):
        await call_as(roost, "create", "tenants", claims, ["create:tenants"], data={"friendly_name": "x"})
    own = ["update:tenant_settings"]
    named = await call_as(roost, "patch", "tenants", claims, own, id="acme", data={"friendly_name": "Acme 2"})
    assert named["friendly_name"] == "Acme 2"
    for field in ("plan", "is_active", "limits"):
        assert await refusal(roost, claims, own, {field: "gold"}) == 400
    assert await refusal(roost, claims, ["update:tenants"], {"plan": "gold"}) == 403
    with pytest.raises(Forbidden):
        await call_as(roost, "remove", "tenants", claims, own, id="acme", query={"confirm": "acme"})
    with pytest.raises(NotFound):
        await call_as(roost, "remove", "tenants", claims, ["delete:tenants"], id="globex", query={"confirm": "globex"})
    begun = await call_as(roost, "remove", "tenants", claims, ["delete:tenants"], id="acme", query={"confirm": "acme"})
    assert begun["kind"] == "delete"
    globex = await roost.backend.tenants.get("globex")
    assert globex is not None
    await roost.backend.control.provisioning.end_memberships(globex)
    with pytest.raises(NotFound):
        await call_as(roost, "get", "tenants", {**claims, "tid": "globex"}, ["read:tenants"], id="globex")


async def refusal(roost: Roost, claims: dict[str, Any], permissions: list[str], data: dict[str, Any]) -> int:
    """The code of the error that answers a patch of `acme`."""
    with pytest.raises(FeathersError) as caught:
        await call_as(roost, "patch", "tenants", claims, permissions, id="acme", data=data)
    return caught.value.code


async def test_changes_are_checked_counted_and_audited(roost: Roost) -> None:
    """TC-12: 409 when somebody was faster, a dry run that changes nothing, the names of what changed in both logs."""
    async with rest(roost, CONTROL_PLANE) as client:
        await manager(roost, client, "read:tenants", "update:tenants")
        epoch = (await client.call("get", "tenants", "acme"))["epoch"]
        dry = await client.call("patch", "tenants", "acme", {"plan": "gold"}, {"dry_run": True})
        assert dry["plan"] == "gold"
        assert (await client.call("get", "tenants", "acme"))["plan"] == "default"
        await client.call("patch", "tenants", "acme", {"plan": "gold"}, {"epoch": epoch})
        assert await code(client, "patch", "tenants", "acme", {"plan": "free"}, {"epoch": epoch}) == 409
        assert await code(client, "patch", "tenants", "acme", {"allowed_origins": ["http://x"]}, {}) == 400
        assert await code(client, "patch", "tenants", "acme", {"plan": "free"}, {"epoch": "x"}) == 400
    await roost.backend.audit.settled()
    for app in ("acme", CONTROL_PLANE):
        entry = await database_of(roost, app)["audit_log"].find_one({"app_id": app, "event": "app-changed"})
        assert entry is not None
        assert entry["details"]["keys"] == ["plan"]
        assert "gold" not in str(entry)


async def test_events_go_to_the_control_planes_managers_alone(roost: Roost) -> None:
    """10.1: created, patched and removed; neither to the child that it is about, nor to users without the permission."""
    async with (
        connect(roost, CONTROL_PLANE) as boss,
        connect(roost, CONTROL_PLANE) as clerk,
        connect(roost, "acme") as child,
    ):
        await manager(roost, boss, "read:tenants", "update:tenants", "create:tenants", "read:tenant_operations")
        await manager(roost, clerk)
        await child.sign_up(fresh("child"))
        await boss.call("create", "tenants", {"id": "initech", "friendly_name": "Initech"})
        await boss.call("patch", "tenants", "acme", {"plan": "gold"})
        control = roost.backend.control
        await control.lifecycle.settle((await control.lifecycle.delete("initech")).id)
        await boss.fence()
        told = [(event.name, event.record["_id"]) for event in boss.events if event.name.startswith("tenants ")]
        # That it is being deleted is told when that takes a while.
        assert [one for one in told if one != ("tenants patched", "initech")] == [
            ("tenants created", "initech"),
            ("tenants patched", "acme"),
            ("tenants removed", "initech"),
        ]
        progress = [event.record for event in boss.events if event.name == "tenant-operations patched"]
        assert progress[-1]["state"] == "succeeded"
        assert {record["kind"] for record in progress} == {"provision", "delete"}
        for other in (clerk, child):
            await other.fence()
            assert [event.name for event in other.events if "tenant" in event.name or "apps" in event.name] == []


@BOTH
async def test_operations_are_asked_for_and_followed(roost: Roost, transport: str) -> None:
    """10.2: suspend, resume and rotate keys; the operation with the events of its steps."""
    control = roost.backend.control
    async with caller_of(roost, transport) as client:
        await manager(
            roost, client, "read:tenants", "update:tenants", "read:tenant_operations", "create:tenant_operations"
        )
        begun = await client.call("create", "tenant-operations", {"kind": "suspend", "tenant_id": "acme"})
        await control.lifecycle.settle(begun["_id"])
        assert await state(roost, "acme") == "suspended"
        shown = await client.call("get", "tenant-operations", begun["_id"])
        assert shown["state"] == "succeeded"
        assert [event["event"] for event in shown["events"]][:2] == ["started", "succeeded"]
        resumed = await client.call("create", "tenant-operations", {"kind": "resume", "tenant_id": "acme"})
        await control.lifecycle.settle(resumed["_id"])
        rotated = await client.call("create", "tenant-operations", {"kind": "rotate-keys", "tenant_id": "acme"})
        await control.lifecycle.settle(rotated["_id"])
        assert len(await roost.backend.keys.records("acme")) == 2
        page = await client.call(
            "find", "tenant-operations", {"tenant_id": "acme", "kind": {"$in": ["suspend", "resume"]}}
        )
        assert [one["kind"] for one in page["data"]] == ["resume", "suspend"]
        for data, expected in (
            ({"kind": "delete", "tenant_id": "acme", "confirm": "acme"}, 403),
            ({"kind": "suspend", "tenant_id": CONTROL_PLANE}, 403),
            ({"kind": "suspend", "tenant_id": "nobody"}, 404),
            ({"kind": "resume", "tenant_id": "acme"}, 409),
            ({"kind": "provision", "tenant_id": "acme"}, 409),
            ({"kind": "explode", "tenant_id": "acme"}, 400),
            ({"kind": "suspend"}, 400),
            ({"kind": "suspend", "tenant_id": {"$ne": "x"}}, 400),
        ):
            assert await code(client, "create", "tenant-operations", data) == expected, data
        assert await code(client, "find", "tenant-operations", {"data": "x"}) == 400
        await manager(roost, client, "read:tenant_operations")
        assert await code(client, "find", "tenant-operations") == 403
        assert await code(client, "get", "tenant-operations", begun["_id"]) == 403


async def test_documents_of_other_apps_say_nothing_of_it(roost: Roost) -> None:
    """10.1: OpenAPI of the control plane has the services, that of a child has not."""
    async with rest(roost, CONTROL_PLANE) as client, rest(roost, "acme") as child:
        paths = (await client.request("GET", "/openapi.json")).json["paths"]
        assert {"/tenants", "/tenants/{id}", "/tenant-operations"} <= paths.keys()
        theirs = (await child.request("GET", "/openapi.json")).json["paths"]
        assert not {path for path in theirs if path.startswith(("/tenants", "/apps", "/tenant-operations"))}
