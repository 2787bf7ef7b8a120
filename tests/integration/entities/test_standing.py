"""TENANCY TK-8, TK-9, TK-14: what becomes of tokens and live connections when rights change, or a connection switches."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hooks.context import HookContext
from server.main import Roost
from services.entities.registry import MEMBERS
from tests.integration.entities.managers import NO_MEMBER, STALE, Manager, at_home, linked, make_manager, switch
from tests.integration.entities.people import (
    HUB,
    NORTH,
    SOUTH,
    TRANSPORTS,
    administrator,
    make_person,
    make_role,
    person,
    refusal,
    tenant_of,
)
from tests.integration.sync.people import quiet
from tests.support.client import PASSWORD, CallError, Client, connect, fresh, handshake, outcome, rest, until

pytestmark = pytest.mark.asyncio(loop_scope="module")
each_transport = pytest.mark.parametrize("transport", TRANSPORTS)

HERE = {"metadata": {"sync": False}}
"""Of a role that stays in the control plane: others come to every app as copies, with events of their own there."""


@each_transport
async def test_a_member_who_is_removed_is_refused_at_the_next_call(served: Roost, transport: str) -> None:
    """TK-4, TK-9, PT-4: a token after removal is 403; its socket is told `not_a_member` and closed."""
    manager = await make_manager(served, "read:roles")
    async with at_home(served, transport, manager) as max_, administrator(served, HUB) as ada:
        await switch(max_, NORTH)
        await max_.call("find", "roles")
        await ada.call("remove", "members", manager.member_id)
        if isinstance(max_, Client):
            await max_.gone()
            assert max_.events[-1].name == "authentication removed"
            assert max_.events[-1].record == {"reason": "not_a_member"}
        else:
            error = await refusal(max_, "find", "roles")
            assert (error.code, error.data) == (403, NO_MEMBER)


@each_transport
async def test_other_roles_make_a_token_stale_and_change_a_socket_in_place(served: Roost, transport: str) -> None:
    """TK-9: 401 `token_stale`; a socket whose user is still a member has his new permissions."""
    manager = await make_manager(served, "read:roles")
    async with at_home(served, transport, manager) as max_, administrator(served, HUB) as ada:
        home = max_.token if isinstance(max_, Client) else max_.headers["Authorization"].split()[1]
        await switch(max_, NORTH)
        triple = {"rs_identifier": "management", "permission": "read:clients"}
        await ada.call("create", f"roles/{manager.role_id}/permissions", triple)
        if isinstance(max_, Client):
            assert (await max_.call("find", "clients"))["total"] >= 0
        else:
            error = await refusal(max_, "find", "roles")
            assert (error.code, error.data) == (401, STALE)
            await switch(max_, NORTH, accessToken=home)
            assert (await max_.call("find", "clients"))["total"] >= 0
        again = await ada.call("patch", "members", manager.member_id, {"roles": []})
        assert again["roles"] == []
        error = await refusal(max_, "find", "clients")
        assert error.code == (403 if isinstance(max_, Client) else 401)


async def test_who_is_member_again_gets_a_new_token(served: Roost) -> None:
    """TK-9: the membership of before is another one: its tokens do not come back to life."""
    manager = await make_manager(served, "read:roles")
    async with at_home(served, "http", manager) as max_, administrator(served, HUB) as ada:
        await switch(max_, NORTH)
        await ada.call("remove", "members", manager.member_id)
        member = {"org_id": manager.org_id, "user_id": manager.user_id, "roles": [manager.role_id]}
        await ada.call("create", "members", member)
        error = await refusal(max_, "find", "roles")
        assert (error.code, error.data) == (401, STALE)


async def test_a_session_that_ends_at_home_ends_everywhere(served: Roost) -> None:
    """TK-3: sessions are looked up at the issuer; logging out in the app ends the session at home."""
    manager = await make_manager(served, "read:roles")
    async with at_home(served, "socket", manager) as max_, at_home(served, "http", manager) as desk:
        await switch(max_, NORTH)
        await desk.call("remove", "sessions", None)
        told = await max_.next_event()  # type: ignore[union-attr]
        assert (told.name, told.record) == ("authentication removed", {"reason": "ended"})
        assert (await refusal(max_, "find", "roles")).code == 401
    async with at_home(served, "http", manager) as max_:
        home = max_.headers["Authorization"]  # type: ignore[union-attr]
        await switch(max_, NORTH)
        await max_.call("remove", "authentication", None)
        reply = await max_.request("GET", "/users", headers={"Authorization": home, "x-app-id": HUB})  # type: ignore[union-attr]
        assert reply.status == 401


async def test_a_manager_who_is_removed_at_home_is_nobody_anywhere(served: Roost) -> None:
    """TK-7, TK-9: user state."""
    manager = await make_manager(served, "read:roles")
    async with at_home(served, "socket", manager) as max_, at_home(served, "http", manager) as desk:
        await switch(max_, NORTH)
        await desk.call("remove", "users", manager.user_id)
        assert (await refusal(max_, "find", "roles")).code == 401


async def test_a_switch_is_one_step_for_events_and_calls(served: Roost) -> None:
    """TK-8: no event of the old tenant after the reply, running calls end as they began, their events stay there."""
    manager = await make_manager(served, "tenant:admin", "read:roles")
    hub_role = await make_person(served, HUB, "tenant:admin")
    await grant_home(served, manager)
    async with (
        person(served, HUB, "socket", hub_role[0]) as colleague,
        at_home(served, "socket", manager) as max_,
        administrator(served, NORTH, "socket") as north,
    ):
        assert isinstance(max_, Client)
        assert isinstance(north, Client)
        assert isinstance(colleague, Client)
        held, go = asyncio.Event(), asyncio.Event()

        async def hold(context: HookContext) -> None:
            if context.data.get("description") == "slow":
                held.set()
                await go.wait()

        served.app.service("roles").add_hooks({"before": {"create": [hold]}})
        name = fresh("slow")
        slow = asyncio.create_task(max_.call("create", "roles", {"name": name, "description": "slow", **HERE}))
        await held.wait()
        [connection] = served.connections.of_user(HUB, manager.user_id)
        assert served.connections.gate(HUB).running >= 1
        await switch(max_, NORTH)
        assert connection.tenant.id == NORTH
        assert [one for one in served.connections.of(HUB) if one is connection] == []
        assert connection in [*served.connections.of(NORTH)]
        assert connection.id not in [one.id for one in served.app.channels.members(HUB, ["roost:everyone"])]
        await max_.take_events()
        go.set()
        made = await slow
        assert made["name"] == name, "its result is still delivered"
        heard = [event.record["name"] for event in await colleague.take_events() if event.name == "roles created"]
        assert name in heard, "its event stays in the old tenant"
        await colleague.call("create", "roles", {"name": fresh("home"), **HERE})
        assert await max_.take_events() == []
        assert await north.take_events() == []
        theirs = await north.call("create", "roles", {"name": fresh("north")})
        event = await max_.next_event()
        assert (event.name, event.record["_id"]) == ("roles created", theirs["_id"])
        await until(lambda: served.connections.gate(HUB).running == 0)
        assert served.connections.gate(NORTH).running >= 0
        assert (await refusal(max_, "get", "roles", made["_id"])).code == 404


async def grant_home(served: Roost, manager: Manager) -> None:
    """Lets the manager read and make roles in the control plane too."""
    async with administrator(served, HUB) as ada:
        role = await make_role(ada, "read:roles", "create:roles")
        await ada.call("create", "user-roles", {"user_id": manager.user_id, "role_id": role})


async def test_no_old_event_after_the_reply_under_a_storm(served: Roost) -> None:
    """TK-8: while one switches to and fro, others write in both tenants; each event is of the tenant of that moment."""
    manager = await make_manager(served, "tenant:admin")
    await grant_home(served, manager)
    # Copies of roles made before come to the north as events of its own, with other names.
    await quiet(served)
    async with (
        administrator(served, HUB, "socket") as here,
        administrator(served, NORTH, "socket") as there,
        at_home(served, "socket", manager) as max_,
    ):
        assert isinstance(max_, Client)
        home = max_.token
        names: dict[str, set[str]] = {HUB: set(), NORTH: set()}

        async def write(caller: Any, app: str) -> None:
            for _ in range(40):
                names[app].add((await caller.call("create", "roles", {"name": fresh(app), **HERE}))["name"])

        writers = asyncio.gather(write(here, HUB), write(there, NORTH))
        for _ in range(10):
            for organization, app in ((NORTH, NORTH), (None, HUB)):
                await switch(max_, organization, accessToken=home)
                seen = len(max_.events)
                await asyncio.sleep(0)
                await max_.fence()
                strange = [e.record["name"] for e in max_.events[seen:] if not e.record["name"].startswith(app[:5])]
                assert strange == []
        await writers


@each_transport
async def test_machines_go_where_they_are_members(served: Roost, transport: str) -> None:
    """TK-14: an API key needs the explicit grant, a membership of `key:<id>`; its scopes hold there too; it can be revoked."""
    root_name, _ = await make_person(served, HUB, "admin")
    org_id = await linked(served, NORTH)
    async with (
        person(served, HUB, "http", root_name) as root,
        administrator(served, HUB) as ada,
        connect(served, HUB) if transport == "socket" else rest(served, HUB) as robot,
    ):
        key = await root.call("create", "api-keys", {"name": "robot", "scopes": ["roles:find"]})
        assert (await refusal(ada, "create", "members", {"org_id": org_id, "user_id": "key:none"})).code == 400
        data = {"strategy": "organization", "organization": NORTH, "accessToken": key["key"]}
        error = await refusal(robot, "create", "authentication", data)
        assert (error.code, error.data) == (403, NO_MEMBER)
        role = await make_role(ada, "read:roles", "create:roles")
        member = {"org_id": org_id, "user_id": f"key:{key['_id']}", "roles": [role]}
        await ada.call("create", "members", member)
        answer = await switch(robot, NORTH, accessToken=key["key"])
        assert answer["authentication"]["payload"]["sub"] == f"key:{key['_id']}"
        assert (await robot.call("find", "roles"))["total"] >= 0
        assert (await refusal(robot, "create", "roles", {"name": fresh("role")})).code == 403, "outside of its scopes"
        await root.call("remove", "api-keys", key["_id"])
        assert (await refusal(robot, "find", "roles")).code == 401


async def test_an_app_that_is_not_served_is_no_place_to_go(served: Roost) -> None:
    """TK-7: `tenant_unavailable`, which members alone are told."""
    manager = await make_manager(served, "read:roles", tenant_id=SOUTH)
    tenants = served.backend.deployment.client[f"{served.settings.database}_control"]["tenants"]

    async def set_status(status: str) -> None:
        await tenants.update_one({"_id": SOUTH}, {"$set": {"status": status}, "$inc": {"epoch": 1}})
        await until(lambda: tenant_of(served, SOUTH).status == status)

    async with at_home(served, "http", manager) as max_:
        await set_status("suspended")
        try:
            data = {"strategy": "organization", "organization": SOUTH}
            error = await refusal(max_, "create", "authentication", data)
            assert (error.code, error.data["code"]) == (403, "tenant_unavailable")
        finally:
            await set_status("ready")
        await switch(max_, SOUTH)


async def test_a_socket_counts_where_it_is(served: Roost) -> None:
    """TK-8, TC-9, pitfall 12: without room in the app it stays where it is; counted in one tenant at a time."""
    manager = await make_manager(served, "read:roles", tenant_id=SOUTH)
    tenants = served.backend.deployment.client[f"{served.settings.database}_control"]["tenants"]

    async def set_most(most: int | None) -> None:
        change = {"$set": {"limits.max_concurrent_connections": most}, "$inc": {"epoch": 1}}
        await tenants.update_one({"_id": SOUTH}, change)
        await until(lambda: tenant_of(served, SOUTH).limits.max_concurrent_connections == most)

    async with at_home(served, "socket", manager) as max_:
        await set_most(1)
        try:
            data = {"strategy": "organization", "organization": SOUTH}
            async with connect(served, SOUTH):
                full = await refusal(max_, "create", "authentication", data)
                assert (full.code, full.data["reason"]) == (429, "TooManyConnections")
                assert (await max_.call("get", "users", manager.user_id))["_id"] == manager.user_id
            await until(lambda: not served.connections.has(SOUTH))
            await switch(max_, SOUTH)
            kind, payload = await handshake(served, f"appId={SOUTH}")
            assert (kind, payload["data"]["data"]["reason"]) == ("refused", "TooManyConnections")
            await switch(max_, None)
            async with connect(served, SOUTH):
                assert served.connections.has(SOUTH)
        finally:
            await set_most(None)


async def test_memberships_changed_behind_the_services_back(served: Roost) -> None:
    """TK-9: removed by another process, the socket is closed within the bound."""
    manager = await make_manager(served, "read:roles")
    async with at_home(served, "socket", manager) as max_:
        await switch(max_, NORTH)
        members = served.people.entities.of(tenant_of(served, HUB), MEMBERS)
        await members.delete_many({"_id": manager.member_id})
        await max_.gone()  # type: ignore[union-attr]


async def test_members_of_business_units_act_under_their_roles_there(served: Roost) -> None:
    """TK-10: in an organization of the app's own exactly the roles of the membership count, and not the global ones."""
    address, user_id = await make_person(served, NORTH, "read:clients")
    async with administrator(served, NORTH) as ada, person(served, NORTH, "socket", address) as bob:
        org = await ada.call("create", "organizations", {"name": fresh("unit")})
        role = await make_role(ada, "read:roles")
        member = {"org_id": org["_id"], "user_id": user_id, "roles": [role]}
        await ada.call("create", "members", member)
        assert isinstance(await outcome(bob, "find", "roles"), CallError)
        await switch(bob, org["name"])
        assert (await bob.call("find", "roles"))["total"] >= 0
        assert (await refusal(bob, "find", "clients")).code == 403
        await switch(bob, None)
        assert (await bob.call("find", "clients"))["total"] >= 0


async def test_what_a_manager_does_stands_in_both_logs(served: Roost) -> None:
    """OB-5, O6: every action on a child is in its log and in that of the control plane, with its actor; refusals too."""
    manager = await make_manager(served, "create:roles")
    async with at_home(served, "http", manager) as max_:
        await switch(max_, NORTH)
        made = await max_.call("create", "roles", {"name": fresh("role")})
        await refusal(max_, "remove", "roles", made["_id"])
    await served.backend.audit.settled()
    actor = f"cp:{manager.user_id}"
    logs = {}
    for app in (NORTH, HUB):
        entries = served.backend.isolation.collection(tenant_of(served, app), "audit_log")
        found = await entries.find({"actor_id": actor}, sort=[("_id", 1)])
        logs[app] = [(entry["event"], entry["outcome"], entry["subject"]) for entry in found]
    assert logs[NORTH] == [("role-created", "success", made["_id"]), ("role-removed", "failure", made["_id"])]
    assert logs[HUB] == logs[NORTH]


async def test_who_was_removed_can_still_log_in_anew(served: Roost) -> None:
    """TK-4: a client that still sends the token of an organization that it has left logs in as what it is."""
    manager = await make_manager(served, "read:roles")
    async with at_home(served, "http", manager) as max_, administrator(served, HUB) as ada:
        await switch(max_, NORTH)
        await ada.call("remove", "members", manager.member_id)
        stale = max_.headers["Authorization"]  # type: ignore[union-attr]
    async with rest(served, HUB, Authorization=stale) as again:
        error = await refusal(again, "find", "users")
        assert (error.code, error.data["reason"]) == (403, "TenantMismatch")
    async with rest(served, NORTH, Authorization=stale) as again:
        assert (await refusal(again, "find", "roles")).code == 403
        answer = await outcome(again, "create", "users", {"email": f"{fresh('new')}@x.example", "password": PASSWORD})
        assert isinstance(answer, CallError)
        wrong = {"strategy": "local", "email": "nobody@x.example", "password": PASSWORD}
        assert (await refusal(again, "create", "authentication", wrong)).code == 401, "and not 403"


async def test_with_the_flag_what_one_has_everywhere_counts_in_an_organization_too(served: Roost) -> None:
    """TK-10: `inherit_global_permissions_in_organizations`."""
    address, user_id = await make_person(served, SOUTH, "read:clients")
    async with administrator(served, SOUTH) as ada, person(served, SOUTH, "socket", address) as bob:
        org = await ada.call("create", "organizations", {"name": fresh("unit")})
        role = await make_role(ada, "read:roles")
        everywhere = await make_role(ada, "read:resource_servers")
        await ada.call("create", "user-roles", {"user_id": user_id, "role_id": everywhere})
        member = {"org_id": org["_id"], "user_id": user_id, "roles": [role]}
        await ada.call("create", "members", member)
        await switch(bob, org["name"])
        for path in ("roles", "clients", "resource-servers"):
            assert (await bob.call("find", path))["total"] >= 0
