"""TENANCY TK-5 to TK-9, TK-14: people of the control plane go on in the apps whose organizations they belong to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import jwt
import pytest

from hooks.context import HookContext
from server.main import Roost
from services.entities.registry import MEMBERS, ORGANIZATIONS
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
from tests.support.client import PASSWORD, CallError, Client, Rest, connect, fresh, handshake, outcome, rest, until

pytestmark = pytest.mark.asyncio(loop_scope="module")
each_transport = pytest.mark.parametrize("transport", TRANSPORTS)
STALE = {"name": "StaleTokenError", "reason": "token_stale"}
NO_MEMBER = {"reason": "not_a_member", "code": "not_a_member"}


async def linked(served: Roost, tenant_id: str) -> str:
    """The control plane's organization for a tenant, as the lifecycle makes it; its id."""
    entities, hub = served.people.entities, tenant_of(served, HUB)
    found = await entities.first(hub, ORGANIZATIONS, {"tenant_id": tenant_id})
    if found is None:
        found = await entities.add(hub, ORGANIZATIONS, {"name": tenant_id, "tenant_id": tenant_id})
    return str(found["_id"])


@dataclass
class Manager:
    """Somebody of the control plane who is a member of the north's organization there."""

    name: str
    user_id: str
    org_id: str
    role_id: str
    member_id: str


async def make_manager(served: Roost, *permissions: str, tenant_id: str = NORTH) -> Manager:
    """A new one, with a role of his own."""
    name, user_id = await make_person(served, HUB)
    org_id = await linked(served, tenant_id)
    async with administrator(served, HUB) as ada:
        role_id = await make_role(ada, *permissions)
        member = await ada.call("create", "members", {"org_id": org_id, "user_id": user_id, "roles": [role_id]})
    return Manager(name, user_id, org_id, role_id, member["_id"])


@asynccontextmanager
async def at_home(served: Roost, transport: str, manager: Manager) -> AsyncIterator[Client | Rest]:
    """The manager, logged in to the control plane."""
    async with person(served, HUB, transport, manager.name) as caller:
        yield caller


async def switch(caller: Client | Rest, organization: str | None, **more: Any) -> Any:
    """Goes on in an organization; over HTTP the app is then that of the token."""
    data = {"strategy": "organization", "organization": organization, **more}
    answer = await caller.call("create", "authentication", data)
    if isinstance(caller, Rest):
        caller.headers["Authorization"] = f"Bearer {answer['accessToken']}"
        caller.headers.pop("x-app-id", None)
    return answer


@each_transport
async def test_a_member_goes_on_in_the_app_with_his_roles_there(served: Roost, transport: str) -> None:
    """TK-1, TK-6, TK-7: `tid`, `org_id`, `org_name`, `permissions`, `mv`; every service works on that app."""
    manager = await make_manager(served, "read:roles", "create:roles")
    async with at_home(served, transport, manager) as max_, administrator(served, NORTH) as ada:
        theirs = await ada.call("create", "roles", {"name": fresh("role")})
        assert (await refusal(max_, "find", "roles")).code == 403
        answer = await switch(max_, NORTH)
        claims = jwt.decode(answer["accessToken"], options={"verify_signature": False})
        assert {name: claims[name] for name in ("app_id", "tid", "org_id", "org_name", "sub")} == {
            "app_id": HUB,
            "tid": NORTH,
            "org_id": manager.org_id,
            "org_name": NORTH,
            "sub": manager.user_id,
        }
        assert claims["permissions"] == ["create:roles", "read:roles"]
        assert claims["mv"]
        assert claims["exp"] - claims["iat"] <= 600
        assert (await max_.call("get", "roles", theirs["_id"]))["_id"] == theirs["_id"]
        made = await max_.call("create", "roles", {"name": fresh("role")})
        assert (await ada.call("get", "roles", made["_id"]))["_id"] == made["_id"]
        assert (await refusal(max_, "remove", "roles", made["_id"])).code == 403
        assert (await refusal(max_, "find", "clients")).code == 403


@each_transport
async def test_a_manager_is_no_user_of_the_app(served: Roost, transport: str) -> None:
    """ADR 40, PT-3: the same id in both tenants; nothing that belongs to the app's user belongs to the manager."""
    manager = await make_manager(served, "tenant:admin")
    users = served.backend.deployment.client[served.settings.database]["users"]
    from bson import ObjectId

    id = ObjectId(manager.user_id)
    await users.insert_one(
        {"_id": {"a": NORTH, "i": id}, "app_id": NORTH, "email": "twin@x.example", "username_key": fresh("twin")}
    )
    diary = {"_id": {"a": NORTH, "i": ObjectId()}, "app_id": NORTH, "owner_id": manager.user_id, "text": "mine"}
    await served.backend.deployment.client[served.settings.database]["diary"].insert_one(diary)
    async with at_home(served, transport, manager) as max_:
        await switch(max_, NORTH)
        assert (await max_.call("find", "diary"))["total"] == 0
        assert (await refusal(max_, "patch", "users", manager.user_id, {"colour": "red"})).code == 404
        assert (await refusal(max_, "remove", "users", manager.user_id)).code == 404
        made = await max_.call("create", "diary", {"text": "his"})
        assert made["owner_id"] == f"cp:{manager.user_id}"
        assert await max_.call("find", "sessions") == []


@each_transport
async def test_the_organization_may_be_named_by_id_in_any_case(served: Roost, transport: str) -> None:
    """TK-7, TK-12: `<org_id or name>`; names are compared after one canonicalisation."""
    manager = await make_manager(served, "read:roles")
    async with at_home(served, transport, manager) as max_:
        token = max_.token if isinstance(max_, Client) else max_.headers["Authorization"].split()[1]
        for named in (manager.org_id, NORTH.upper(), f" {NORTH} "):
            answer = await switch(max_, named, accessToken=token)
            assert answer["authentication"]["payload"]["tid"] == NORTH


@each_transport
async def test_who_is_no_member_is_told_the_same_of_what_there_is_and_what_not(served: Roost, transport: str) -> None:
    """TK-7: `organization_not_found` and `not_a_member` are one answer; the session and the token stay good."""
    manager = await make_manager(served, "read:roles")
    await linked(served, SOUTH)
    async with at_home(served, transport, manager) as max_:
        errors = [
            await refusal(max_, "create", "authentication", {"strategy": "organization", "organization": named})
            for named in (SOUTH, "nowhere", "0123456789abcdef01234567", await linked(served, SOUTH))
        ]
        assert {str(error.wire) for error in errors} == {str(errors[0].wire)}
        assert (errors[0].code, errors[0].data) == (403, NO_MEMBER)
        assert (await max_.call("get", "users", manager.user_id))["_id"] == manager.user_id
        for wrong in ({}, {"organization": ""}, {"organization": 7}, {"organization": {"$ne": ""}}):
            assert (await refusal(max_, "create", "authentication", {"strategy": "organization", **wrong})).code == 400
        assert (await max_.call("get", "users", manager.user_id))["_id"] == manager.user_id


async def test_a_stranger_and_a_forger_go_nowhere(served: Roost) -> None:
    """TK-4: no token is 401, a forged one is 401 with the one body, an ended session asks for a new login (TK-7)."""
    manager = await make_manager(served, "read:roles")
    async with rest(served, HUB) as stranger, at_home(served, "http", manager) as max_:
        data = {"strategy": "organization", "organization": NORTH}
        assert (await refusal(stranger, "create", "authentication", data)).code == 401
        good = max_.headers["Authorization"].split()[1]  # type: ignore[union-attr]
        forged = await refusal(stranger, "create", "authentication", {**data, "accessToken": good[:-6] + "AAAAAA"})
        assert forged.code == 401
        await max_.call("remove", "authentication", None)
        ended = await refusal(stranger, "create", "authentication", {**data, "accessToken": good})
        assert (ended.code, ended.data["code"]) == (403, "reauthentication_required")


@each_transport
async def test_a_refresh_token_opens_the_organization_and_stays(served: Roost, transport: str) -> None:
    """TK-7, TK-13: by `refreshToken`, which is not used up; the session is the same and does not last longer."""
    manager = await make_manager(served, "read:roles")
    async with connect(served, HUB) if transport == "socket" else rest(served, HUB) as max_:
        login = {"strategy": "local", "username": manager.name, "password": PASSWORD, "refresh": True}
        first = await max_.call("create", "authentication", login)
        sessions = served.backend.deployment.client[served.settings.database]["sessions"]
        sid = first["authentication"]["payload"]["sid"]
        before = await sessions.find_one({"app_id": HUB, "_id.i": sid})
        for _ in range(2):
            answer = await switch(max_, NORTH, refreshToken=first["refreshToken"])
            assert answer["authentication"]["payload"]["sid"] == sid
            assert (await max_.call("find", "roles"))["data"] is not None
        after = await sessions.find_one({"app_id": HUB, "_id.i": sid})
        assert before is not None
        assert after is not None
        assert after["expires_at"] == before["expires_at"]
        assert await max_.call(
            "create",
            "authentication",
            {"strategy": "organization", "organization": None, "refreshToken": first["refreshToken"]},
        )
        async with rest(served, HUB) as other:
            again = {"strategy": "refresh", "refreshToken": first["refreshToken"]}
            assert (await other.call("create", "authentication", again))["refreshToken"]


@each_transport
async def test_and_back_again(served: Roost, transport: str) -> None:
    """TK-7, TK-13: with null one is in no organization any more."""
    manager = await make_manager(served, "read:roles")
    async with at_home(served, transport, manager) as max_:
        await switch(max_, NORTH)
        assert (await max_.call("find", "roles"))["total"] >= 0
        answer = await switch(max_, None)
        assert answer["authentication"]["payload"]["tid"] == HUB
        assert (await max_.call("get", "users", manager.user_id))["_id"] == manager.user_id
        assert (await refusal(max_, "find", "roles")).code == 403


@pytest.mark.parametrize("hint", [SOUTH, HUB])
async def test_hints_must_agree_with_the_token(served: Roost, hint: str) -> None:
    """TK-2, PT-4: header of another tenant is 403 `TenantMismatch`; without one the token says which app is meant."""
    manager = await make_manager(served, "tenant:admin")
    async with at_home(served, "http", manager) as max_:
        await switch(max_, NORTH)
        assert isinstance(max_, Rest)
        assert (await max_.request("GET", "/roles")).status == 200
        reply = await max_.request("GET", "/roles", headers={"x-app-id": hint})
        assert (reply.status, reply.json["data"]) == (403, {"reason": "TenantMismatch"})
        public = await max_.request("GET", "/notes" if hint == SOUTH else "/users", headers={"x-app-id": hint})
        assert public.status == 403
        assert (await max_.request("GET", "/roles", headers={"x-app-id": NORTH})).status == 200


async def test_a_token_in_no_organization_reaches_no_app(served: Roost) -> None:
    """TK-5, 1.4: the same user without organization: 403 on child-scoped services; he reads his organizations at home."""
    manager = await make_manager(served, "tenant:admin")
    async with at_home(served, "http", manager) as max_:
        reply = await max_.request("GET", "/notes", headers={"x-app-id": NORTH})  # type: ignore[union-attr]
        assert (reply.status, reply.json["data"]) == (403, {"reason": "TenantMismatch"})
        assert [found["_id"] for found in (await max_.call("find", "organizations"))["data"]] == [manager.org_id]


@each_transport
async def test_whoever_administers_organizations_manages_any_app(served: Roost, transport: str) -> None:
    """1.4, TK-11: a global grant on a token of the control plane in no organization; in an organization it counts not."""
    name, user_id = await make_person(served, HUB, "admin:organizations")
    org_id = await linked(served, NORTH)
    async with person(served, HUB, "http", name) as home, administrator(served, HUB) as ada:
        assert isinstance(home, Rest)
        token = home.headers["Authorization"].split()[1]
        async with connect(served, SOUTH) if transport == "socket" else rest(served, SOUTH) as root:
            if isinstance(root, Client):
                await root.login_by(token)
            else:
                root.headers["Authorization"] = f"Bearer {token}"
            made = await root.call("create", "roles", {"name": fresh("role")})
            assert (await root.call("get", "roles", made["_id"]))["_id"] == made["_id"]
        role = await make_role(ada, "read:clients")
        await ada.call("create", "members", {"org_id": org_id, "user_id": user_id, "roles": [role]})
        await switch(home, NORTH)
        assert (await home.call("find", "clients"))["total"] >= 0
        assert (await refusal(home, "find", "roles")).code == 403
        assert (await home.request("GET", "/roles", headers={"x-app-id": SOUTH})).status == 403


async def test_an_organization_of_an_app_that_is_called_like_another_app_grants_nothing_there(served: Roost) -> None:
    """CP-4: the child's own organization `south` leaves its members in the north, with the roles that they have there."""
    address, user_id = await make_person(served, NORTH)
    async with administrator(served, NORTH) as ada, person(served, NORTH, "http", address) as bob:
        org = await ada.call("create", "organizations", {"name": SOUTH})
        role = await make_role(ada, "tenant:admin")
        await ada.call("create", "members", {"org_id": org["_id"], "user_id": user_id, "roles": [role]})
        answer = await switch(bob, SOUTH)
        payload = answer["authentication"]["payload"]
        assert (payload["app_id"], payload["tid"], payload["org_name"]) == (NORTH, NORTH, SOUTH)
        assert isinstance(bob, Rest)
        assert (await bob.request("GET", "/roles")).status == 200
        for elsewhere in (SOUTH, HUB):
            reply = await bob.request("GET", "/roles", headers={"x-app-id": elsewhere})
            assert (reply.status, reply.json["data"]) == (403, {"reason": "TenantMismatch"})
        me = await bob.call("get", "users", user_id)
        assert me["_id"] == user_id, "he is himself there"


async def test_an_organization_of_an_app_stands_for_no_app_whatever_its_record_says(served: Roost) -> None:
    """CP-4: rights over a tenant come from the control plane's organizations; a child's record with a `tenant_id` is none."""
    address, user_id = await make_person(served, NORTH)
    entities, north = served.people.entities, tenant_of(served, NORTH)
    name = fresh("sly")
    sly = await entities.add(north, ORGANIZATIONS, {"name": name, "tenant_id": SOUTH})
    await entities.add(north, MEMBERS, {"org_id": str(sly["_id"]), "user_id": user_id, "roles": []})
    async with person(served, NORTH, "http", address) as bob:
        answer = await switch(bob, name)
        assert answer["authentication"]["payload"]["tid"] == NORTH


async def test_a_childs_token_with_the_id_of_a_manager_is_not_the_managers(served: Roost) -> None:
    """CP-12: issued by the north, with the `sub` of a user of the control plane: nothing of his, in any tenant."""
    manager = await make_manager(served, "tenant:admin")
    north = tenant_of(served, NORTH)
    token, _ = await served.people.tokens.issue(north, manager.user_id)
    async with rest(served, HUB) as eve:
        eve.headers["Authorization"] = f"Bearer {token}"
        for path in ("organizations", "users", "members"):
            error = await refusal(eve, "find", path)
            assert (error.code, error.data) == (403, {"reason": "TenantMismatch"})
        data = {"strategy": "organization", "organization": NORTH, "accessToken": token}
        assert (await refusal(eve, "create", "authentication", data)).code in (401, 403)
        eve.headers["x-app-id"] = NORTH
        assert (await refusal(eve, "create", "authentication", data)).code in (401, 403)


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
        slow = asyncio.create_task(max_.call("create", "roles", {"name": name, "description": "slow"}))
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
        await colleague.call("create", "roles", {"name": fresh("home")})
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
                names[app].add((await caller.call("create", "roles", {"name": fresh(app)}))["name"])

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
