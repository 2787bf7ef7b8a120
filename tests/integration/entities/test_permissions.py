"""TENANCY TK-10, TK-11: whose permissions count, in exactly one scope, at once after a change and without a query per call."""

from __future__ import annotations

import asyncio

import jwt
import pytest

from server.main import Roost
from services.entities.grants import Grants
from services.users import grant
from tests.integration.entities.people import (
    HUB,
    NORTH,
    TRANSPORTS,
    administrator,
    make_person,
    make_role,
    person,
    refusal,
    tenant_of,
)
from tests.support.client import CallError, Client, fresh, outcome, until
from tests.support.placed import database_of

pytestmark = pytest.mark.asyncio(loop_scope="module")
each_transport = pytest.mark.parametrize("transport", TRANSPORTS)


async def may(caller: object, path: str) -> bool:
    """Whether a call passes the rule of `find`."""
    answer = await outcome(caller, "find", path)  # type: ignore[arg-type]
    assert not isinstance(answer, CallError) or answer.code == 403
    return not isinstance(answer, CallError)


@each_transport
async def test_a_global_role_counts_at_once_and_no_longer_than_it_is_held(served: Roost, transport: str) -> None:
    """TK-10: global grants; giving, narrowing and taking a role changes what live logins may do, before the answer comes."""
    address, user_id = await make_person(served, NORTH)
    async with administrator(served, NORTH) as ada, person(served, NORTH, transport, address) as bob:
        role = await make_role(ada, "read:roles", "read:clients")
        assert not await may(bob, "roles")
        given = await ada.call("create", "user-roles", {"user_id": user_id, "role_id": role})
        assert await may(bob, "roles")
        assert await may(bob, "clients")
        path = f"roles/{role}/permissions"
        (triple,) = (await ada.call("find", path, {"permission": "read:roles"}))["data"]
        await ada.call("remove", path, triple["_id"])
        assert not await may(bob, "roles")
        assert await may(bob, "clients")
        await ada.call("remove", "user-roles", given["_id"])
        assert not await may(bob, "clients")


@each_transport
async def test_the_bundle_implies_the_rest_everywhere(served: Roost, transport: str) -> None:
    """CP-24: `tenant:admin` stands for all that is done inside a tenant, and for nothing that is done to tenants."""
    address, _ = await make_person(served, NORTH, "tenant:admin")
    async with person(served, NORTH, transport, address) as ada:
        for path in ("roles", "members", "clients", "resource-servers", "user-roles", "invitations"):
            assert await may(ada, path)
        answer = await ada.login(address, field="email")
        assert answer["user"]["permissions"] == ["tenant:admin"], "his record is shown as it is"


@each_transport
async def test_scopes_count_as_long_as_their_server_defines_them(served: Roost, transport: str) -> None:
    """TK-10: permissions are intersected with what the resource server defines now."""
    address, user_id = await make_person(served, NORTH)
    async with administrator(served, NORTH) as ada, person(served, NORTH, transport, address) as bob:
        identifier = fresh("https://things.example/")
        scopes = [{"value": "read:things"}, {"value": "write:things"}]
        server = await ada.call("create", "resource-servers", {"identifier": identifier, "scopes": scopes})
        role = await make_role(ada, "read:things", "write:things", server=identifier)
        await ada.call("create", "user-roles", {"user_id": user_id, "role_id": role})
        assert await held(served, user_id) == {"read:things", "write:things"}
        await ada.call("patch", "resource-servers", server["_id"], {"scopes": scopes[:1]})
        assert await held(served, user_id) == {"read:things"}
        await ada.call("remove", "resource-servers", server["_id"])
        assert await held(served, user_id) == set()
        assert not await may(bob, "roles")


async def held(served: Roost, user_id: str) -> set[str]:
    """What a user's global roles allow."""
    found = await served.people.grants.permissions(tenant_of(served, NORTH), user_id)
    assert found is not None
    return {*found}


@pytest.mark.parametrize("word", ["tenant:admin", "read:roles", "admin"])
async def test_a_look_alike_api_gives_nothing_of_roosts_own(served: Roost, word: str) -> None:
    """TK-11: a scope of the tenant's own API that is called like one of Roost's permissions is not that permission."""
    address, user_id = await make_person(served, NORTH)
    async with administrator(served, NORTH) as ada, person(served, NORTH, "http", address) as bob:
        identifier = fresh("https://look-alike.example/")
        await ada.call("create", "resource-servers", {"identifier": identifier, "scopes": [{"value": word}]})
        role = await make_role(ada, word, server=identifier)
        await ada.call("create", "user-roles", {"user_id": user_id, "role_id": role})
        assert not await may(bob, "roles")
        assert (await refusal(bob, "find", "api-keys")).code == 403


async def test_a_look_alike_in_the_control_plane_administers_no_tenant(served: Roost) -> None:
    """TK-11: `admin:organizations` counts on the management audience alone."""
    address, user_id = await make_person(served, HUB)
    async with administrator(served, HUB) as ada, person(served, HUB, "http", address) as eve:
        identifier = fresh("https://look-alike.example/")
        scopes = [{"value": "admin:organizations"}]
        await ada.call("create", "resource-servers", {"identifier": identifier, "scopes": scopes})
        role = await make_role(ada, "admin:organizations", server=identifier)
        await ada.call("create", "user-roles", {"user_id": user_id, "role_id": role})
        eve.headers["x-app-id"] = NORTH  # type: ignore[union-attr]
        error = await refusal(eve, "find", "roles")
        assert (error.code, error.data) == (403, {"reason": "TenantMismatch"})


async def test_what_the_command_line_gives_is_seen_by_live_logins(served: Roost) -> None:
    """TK-9: a user's own permissions, changed behind the services' back, are those of his socket within the bound."""
    address, _ = await make_person(served, NORTH)
    async with person(served, NORTH, "socket", address) as bob:
        assert not await may(bob, "roles")
        await grant(served.backend.isolation, tenant_of(served, NORTH), address, "tenant:admin")
        await until(lambda: may(bob, "roles"))


async def test_roles_changed_behind_the_services_back_count_too(served: Roost) -> None:
    """TK-9: the change stream tells of roles that another process has given or taken."""
    address, user_id = await make_person(served, NORTH)
    tenant, database = tenant_of(served, NORTH), database_of(served, NORTH)
    async with administrator(served, NORTH) as ada, person(served, NORTH, "socket", address) as bob:
        role = await make_role(ada, "read:roles")
        from services.entities.registry import USER_ROLES

        given = {"user_id": user_id, "org_id": "", "role_id": role}
        await served.people.entities.add(tenant, USER_ROLES, given)
        await until(lambda: may(bob, "roles"))
        await database["role_permissions"].delete_many({"app_id": NORTH, "role_id": role})
        await until(lambda: may_not(bob, "roles"))


async def may_not(caller: object, path: str) -> bool:
    """Whether a call does not pass the rule of `find`."""
    return not await may(caller, path)


async def test_a_call_on_a_socket_asks_the_database_for_no_permissions(served: Roost) -> None:
    """The permissions of a live login stand in memory: a call costs the database what it always did."""
    address, user_id = await make_person(served, NORTH)
    async with administrator(served, NORTH) as ada, person(served, NORTH, "socket", address) as bob:
        role = await make_role(ada, "read:roles")
        await ada.call("create", "user-roles", {"user_id": user_id, "role_id": role})
        await bob.call("find", "roles")
        loads = 0
        entities = served.people.entities
        find = entities.find

        async def counting(*arguments: object) -> object:
            nonlocal loads
            loads += 1
            return await find(*arguments)  # type: ignore[arg-type]

        entities.find = counting  # type: ignore[method-assign, assignment]
        try:
            for _ in range(5):
                await bob.call("find", "roles")
        finally:
            del entities.find
        assert loads == 0


async def test_no_more_is_remembered_than_agreed(served: Roost) -> None:
    """LIMITS: everything is bounded; who is forgotten is found anew, and a change still reaches everybody's login."""
    grants = Grants(served.people.entities, served.catalogue.get, most=2)
    tenant = tenant_of(served, NORTH)
    for number in range(5):
        await grants.permissions(tenant, f"user-{number}")
    assert len(grants._kept) == 2
    assert grants.forget_roles(NORTH) is None, "nobody knows whom it concerns"


async def test_rights_are_remembered_by_their_weight(served: Roost) -> None:
    """LIMITS: many words of few people are bounded as well; what is forgotten weighs nothing."""
    tenant = tenant_of(served, NORTH)
    async with administrator(served, NORTH) as ada:
        role = await make_role(ada, "read:roles", "read:clients", "read:users")
        people = [(await make_person(served, NORTH))[1] for _ in range(3)]
        for user_id in people:
            await ada.call("create", "user-roles", {"user_id": user_id, "role_id": role})
    grants = Grants(served.people.entities, served.catalogue.get, heaviest=13)
    for user_id in [*people, people[-1]]:
        assert await grants.permissions(tenant, user_id) == frozenset({"read:roles", "read:clients", "read:users"})
    assert [key[1] for key in grants._kept] == people[1:], "each weighs six"
    grants.forget_user(NORTH, people[1])
    await grants.permissions(tenant, people[0])
    assert [key[1] for key in grants._kept] == [people[2], people[0]]
    grants.forget_all()
    assert grants._weight == 0


async def test_two_who_look_at_the_same_time_are_both_told(served: Roost) -> None:
    """TK-9: what two calls found at once is one thing, so that a change makes it stale for both."""
    tenant = tenant_of(served, NORTH)
    _, user_id = await make_person(served, NORTH)
    grants = Grants(served.people.entities, served.catalogue.get)
    claims = {"sub": user_id, "app_id": NORTH}
    first, second = await asyncio.gather(*(grants.grant(tenant, tenant, claims) for _ in range(2)))
    assert (first.is_stale, second.is_stale) == (False, False)
    grants.forget_user(NORTH, user_id)
    assert (first.is_stale, second.is_stale) == (True, True)


async def test_the_token_says_where_it_counts(served: Roost) -> None:
    """TK-1: `tid` stands in every token; permissions of a login in no organization do not travel in it."""
    address, _ = await make_person(served, NORTH, "tenant:admin")
    async with person(served, NORTH, "socket", address) as ada:
        assert isinstance(ada, Client)
        assert ada.token is not None
        claims = jwt.decode(ada.token, options={"verify_signature": False})
        assert (claims["tid"], claims["app_id"]) == (NORTH, NORTH)
        assert "org_id" not in claims
