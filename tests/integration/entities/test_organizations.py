"""TENANCY 10.2: organizations and their members."""

from __future__ import annotations

import asyncio

import pytest

from server.main import Roost
from services.entities.records import Entities
from services.entities.registry import ORGANIZATIONS
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
from tests.support.client import CallError, connect, fresh, outcome, rest

pytestmark = pytest.mark.asyncio(loop_scope="module")
each_transport = pytest.mark.parametrize("transport", TRANSPORTS)


@each_transport
async def test_who_may_administers_organizations(served: Roost, transport: str) -> None:
    """10.2 organizations: all methods but update, by their permissions; SY-3: each write counts."""
    async with administrator(served, NORTH, transport) as ada:
        made = await ada.call("create", "organizations", {"name": f"  {fresh('ORG')}", "display_name": "The Org"})
        assert made["name"] == made["name"].lower().strip()
        assert made["rev"] == 1
        id = made["_id"]
        patched = await ada.call("patch", "organizations", id, {"display_name": "Another"})
        assert (patched["rev"], patched["display_name"]) == (2, "Another")
        assert (await ada.call("get", "organizations", id)) == patched
        assert (await refusal(ada, "update", "organizations", id, {"name": "x"})).code == 405
        assert (await ada.call("remove", "organizations", id))["_id"] == id
        assert (await refusal(ada, "get", "organizations", id)).code == 404


@each_transport
@pytest.mark.parametrize(
    "field", ["rev", "source_id", "source_rev", "is_system", "synced_at", "tenant_id", "_id", "created_at", "app_id"]
)
async def test_what_the_server_fills_in_no_client_writes(served: Roost, transport: str, field: str) -> None:
    """PR-4, CP-3: 400 for the server's own fields, when an organization is made and when it is changed."""
    async with administrator(served, NORTH, transport) as ada:
        made = await ada.call("create", "organizations", {"name": fresh("org")})
        value = True if field == "is_system" else SOUTH
        assert (await refusal(ada, "create", "organizations", {"name": fresh("org"), field: value})).code == 400
        assert (await refusal(ada, "patch", "organizations", made["_id"], {field: value})).code == 400
        assert await ada.call("get", "organizations", made["_id"]) == made


async def test_names_are_one_whatever_their_case_and_form(served: Roost) -> None:
    """TK-12: names are made canonical when they are written, and unique in their app alone."""
    name = fresh("straße-").replace("ß", "ss")
    async with administrator(served, NORTH) as north, administrator(served, SOUTH) as south:
        await north.call("create", "organizations", {"name": name})
        wide = "".join(chr(ord(char) + 0xFEE0) if "a" <= char <= "z" else char for char in name)
        for other in (name.upper(), wide):
            error = await refusal(north, "create", "organizations", {"name": other})
            assert (error.code, error.message) == (409, "This name is already taken")
        assert (await south.call("create", "organizations", {"name": name.upper()}))["name"] == name


@pytest.mark.parametrize("name", ["", " ", "a b", "a/b", "0123456789abcdef01234567", "ünicode", "x" * 64, "a\u200bb"])
async def test_names_are_words_and_never_ids(served: Roost, name: str) -> None:
    """TK-7: an organization is asked for by name or id, which cannot be taken for each other."""
    async with administrator(served, NORTH) as ada:
        assert (await refusal(ada, "create", "organizations", {"name": name})).code == 400


@each_transport
async def test_without_the_permission_one_sees_ones_own(served: Roost, transport: str) -> None:
    """TK-5: who may not read all organizations reads those that he is a member of, and changes none."""
    address, user_id = await make_person(served, NORTH)
    async with administrator(served, NORTH) as ada, person(served, NORTH, transport, address) as bob:
        mine = await ada.call("create", "organizations", {"name": fresh("mine")})
        other = await ada.call("create", "organizations", {"name": fresh("other")})
        await ada.call("create", "members", {"org_id": mine["_id"], "user_id": user_id})
        assert [found["_id"] for found in (await bob.call("find", "organizations"))["data"]] == [mine["_id"]]
        assert (await bob.call("find", "organizations", {"_id": other["_id"]}))["total"] == 0
        assert (await bob.call("get", "organizations", mine["_id"]))["_id"] == mine["_id"]
        assert (await refusal(bob, "get", "organizations", other["_id"])).code == 404
        assert (await refusal(bob, "patch", "organizations", mine["_id"], {"display_name": "x"})).code == 403
        async with rest(served, NORTH) as stranger:
            assert (await refusal(stranger, "find", "organizations")).code == 401


async def test_who_may_not_read_them_hears_nothing_of_organizations(served: Roost) -> None:
    """10.1: events stay in the app, with those who may read."""
    plain, _ = await make_person(served, NORTH)
    async with (
        administrator(served, NORTH, "socket") as ada,
        administrator(served, SOUTH, "socket") as south,
        connect(served, NORTH) as bob,
    ):
        await bob.login(plain, field="email")
        made = await ada.call("create", "organizations", {"name": fresh("org")})
        event = await ada.next_event()  # type: ignore[union-attr]
        assert (event.name, event.record["_id"]) == ("organizations created", made["_id"])
        await bob.quiet()
        await south.quiet()  # type: ignore[union-attr]


async def test_linked_organizations_go_with_their_app(served: Roost) -> None:
    """CP-3, 10.2: in the control plane none is made or removed by a call, and a linked name stays."""
    entities, hub = Entities(served.backend.isolation), tenant_of(served, HUB)
    name = fresh("linked")
    linked = await entities.add(hub, ORGANIZATIONS, {"name": name, "tenant_id": name})
    id = str(linked["_id"])
    async with administrator(served, HUB) as ada:
        assert (await refusal(ada, "create", "organizations", {"name": fresh("org")})).code == 403
        assert (await refusal(ada, "remove", "organizations", id)).code == 403
        assert (await refusal(ada, "patch", "organizations", id, {"name": "other"})).code == 403
        assert (await refusal(ada, "patch", "organizations", id, {"tenant_id": "other"})).code == 400
        assert (await ada.call("patch", "organizations", id, {"display_name": "Shown"}))["tenant_id"] == name


@each_transport
async def test_members_belong_once_with_roles_that_are_there(served: Roost, transport: str) -> None:
    """10.2 members: unique by organization and user, a patch gives roles; both paths lead to the same."""
    _, user_id = await make_person(served, NORTH)
    async with administrator(served, NORTH, transport) as ada:
        org = (await ada.call("create", "organizations", {"name": fresh("org")}))["_id"]
        role = await make_role(ada, "read:roles")
        member = await ada.call("create", f"organizations/{org}/members", {"user_id": user_id, "roles": [role]})
        assert (member["org_id"], member["roles"]) == (org, [role])
        again = await refusal(ada, "create", "members", {"org_id": org, "user_id": user_id})
        assert (again.code, again.message) == (409, "This membership is already taken")
        for wrong in ({"user_id": "nobody"}, {"org_id": "none"}, {"roles": ["none"]}, {"user_id": None}):
            data = {"org_id": org, "user_id": user_id, **wrong}
            assert (await refusal(ada, "create", "members", data)).code == 400
        path = f"organizations/{org}/members"
        assert (await ada.call("patch", path, member["_id"], {"roles": []}))["roles"] == []
        assert (await refusal(ada, "patch", path, member["_id"], {"user_id": "other"})).code == 400
        assert (await ada.call("find", "members", {"org_id": org}))["total"] == 1
        other = (await ada.call("create", "organizations", {"name": fresh("org")}))["_id"]
        assert (await ada.call("find", f"organizations/{other}/members"))["total"] == 0
        assert (await refusal(ada, "remove", f"organizations/{other}/members", member["_id"])).code == 404
        assert (await refusal(ada, "find", "organizations/none/members")).code == 404
        assert (await ada.call("remove", path, member["_id"]))["_id"] == member["_id"]


@each_transport
async def test_the_last_administrator_stays(served: Roost, transport: str) -> None:
    """10.2 members: the last administrator is neither removed nor loses the role (409); anybody else is."""
    people = [(await make_person(served, NORTH))[1] for _ in range(3)]
    async with administrator(served, NORTH, transport) as ada:
        org = (await ada.call("create", "organizations", {"name": fresh("org")}))["_id"]
        role = await make_role(ada, "tenant:admin")
        first, second, plain = [
            await ada.call("create", "members", {"org_id": org, "user_id": user_id, "roles": roles})
            for user_id, roles in zip(people, ([role], [role], []), strict=True)
        ]
        await ada.call("remove", "members", plain["_id"])
        await ada.call("patch", "members", second["_id"], {"roles": []})
        for error in (
            await refusal(ada, "remove", "members", first["_id"]),
            await refusal(ada, "patch", "members", first["_id"], {"roles": []}),
        ):
            assert (error.code, error.data) == (409, {"reason": "LastAdmin"})
        assert (await ada.call("find", "members", {"org_id": org, "user_id": people[0]}))["data"][0]["roles"] == [role]


async def test_of_two_administrators_who_go_at_once_one_stays(served: Roost) -> None:
    """10.2 members: two removals at once are not both the last but one."""
    people = [(await make_person(served, NORTH))[1] for _ in range(2)]
    async with administrator(served, NORTH) as ada:
        role = await make_role(ada, "tenant:admin")
        for _ in range(3):
            org = (await ada.call("create", "organizations", {"name": fresh("org")}))["_id"]
            made = [
                await ada.call("create", "members", {"org_id": org, "user_id": user_id, "roles": [role]})
                for user_id in people
            ]
            answers = await asyncio.gather(*(outcome(ada, "remove", "members", member["_id"]) for member in made))
            assert sum(isinstance(answer, CallError) for answer in answers) == 1
            assert (await ada.call("find", "members", {"org_id": org}))["total"] == 1


async def test_with_a_user_go_his_memberships(served: Roost) -> None:
    """A user who is removed is a member nowhere, and has no roles."""
    address, user_id = await make_person(served, NORTH)
    async with administrator(served, NORTH) as ada, person(served, NORTH, "http", address) as bob:
        org = (await ada.call("create", "organizations", {"name": fresh("org")}))["_id"]
        role = await make_role(ada, "read:roles")
        await ada.call("create", "members", {"org_id": org, "user_id": user_id})
        await ada.call("create", "user-roles", {"user_id": user_id, "role_id": role})
        await bob.call("remove", "users", user_id)
        assert (await ada.call("find", "members", {"user_id": user_id}))["total"] == 0
        assert (await ada.call("find", "user-roles", {"user_id": user_id}))["total"] == 0


async def test_members_are_heard_of_under_one_name(served: Roost) -> None:
    """10.1, 10.2: whichever path a membership is written by, its event is that of `members`, and comes once."""
    _, user_id = await make_person(served, NORTH)
    async with administrator(served, NORTH, "socket") as ada:
        org = (await ada.call("create", "organizations", {"name": fresh("org")}))["_id"]
        await ada.take_events()  # type: ignore[union-attr]
        member = await ada.call("create", f"organizations/{org}/members", {"user_id": user_id})
        await ada.call("remove", "members", member["_id"])
        heard = [(event.name, event.record["_id"]) for event in await ada.take_events()]  # type: ignore[union-attr]
        assert heard == [("members created", member["_id"]), ("members removed", member["_id"])]
