"""TENANCY TK-1 to TK-7, CP-4, CP-12: people of the control plane go on in the apps whose organizations they belong to."""

from __future__ import annotations

import jwt
import pytest

from server.main import Roost
from services.entities.registry import MEMBERS, ORGANIZATIONS
from tests.integration.entities.managers import NO_MEMBER, at_home, linked, make_manager, switch
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
from tests.support.client import PASSWORD, Client, Rest, connect, fresh, rest
from tests.support.placed import database_of

pytestmark = pytest.mark.asyncio(loop_scope="module")
each_transport = pytest.mark.parametrize("transport", TRANSPORTS)


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
    users = database_of(served, NORTH)["users"]
    from bson import ObjectId

    id = ObjectId(manager.user_id)
    await users.insert_one(
        {"_id": {"a": NORTH, "i": id}, "app_id": NORTH, "email": "twin@x.example", "username_key": fresh("twin")}
    )
    diary = {"_id": {"a": NORTH, "i": ObjectId()}, "app_id": NORTH, "owner_id": manager.user_id, "text": "mine"}
    await database_of(served, NORTH)["diary"].insert_one(diary)
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
        sessions = database_of(served, HUB)["sessions"]
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
