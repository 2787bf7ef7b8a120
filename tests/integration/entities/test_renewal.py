"""TENANCY TK-7, TK-13: who has gone on in an organization renews the login by `refresh`, as everybody does, and stays in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from server.main import Roost
from tests.integration.entities.managers import NO_MEMBER, Manager, linked, make_manager, switch
from tests.integration.entities.people import (
    EAST,
    HUB,
    NORTH,
    SOUTH,
    TRANSPORTS,
    administrator,
    field_of,
    make_person,
    make_role,
    refusal,
)
from tests.support.client import PASSWORD, Client, Rest, connect, fresh, rest

pytestmark = pytest.mark.asyncio(loop_scope="module")


@asynccontextmanager
async def persistent(served: Roost, transport: str, app: str, name: str) -> AsyncIterator[tuple[Client | Rest, str]]:
    """Somebody who is logged in and has a refresh token."""
    async with connect(served, app) if transport == "socket" else rest(served, app) as caller:
        login = {"strategy": "local", field_of(app): name, "password": PASSWORD, "refresh": True}
        answer = await caller.call("create", "authentication", login)
        if isinstance(caller, Rest):
            caller.headers["Authorization"] = f"Bearer {answer['accessToken']}"
        yield caller, answer["refreshToken"]


async def refresh(caller: Client | Rest, token: str, **more: Any) -> Any:
    """Renews the login; over HTTP later requests carry the new token."""
    answer = await caller.call("create", "authentication", {"strategy": "refresh", "refreshToken": token, **more})
    if isinstance(caller, Rest):
        caller.headers["Authorization"] = f"Bearer {answer['accessToken']}"
    return answer


def expire(served: Roost, user_id: str) -> None:
    """What happens to a user's live connections when the access token's time is over."""
    (connection,) = served.connections.of_user(HUB, user_id) or served.connections.of_user(NORTH, user_id)
    served.connections.expire(connection)


async def leave(served: Roost, manager: Manager) -> None:
    """Ends the membership."""
    async with administrator(served, HUB) as ada:
        await ada.call("remove", "members", manager.member_id)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_refresh_keeps_a_manager_in_the_app(served: Roost, transport: str) -> None:
    """TK-7, TK-13: in the child `refresh` takes the control plane's refresh token, each one once; the session is the same."""
    manager = await make_manager(served, "read:roles")
    async with persistent(served, transport, HUB, manager.name) as (max_, token):
        first = (await switch(max_, NORTH))["authentication"]["payload"]
        if isinstance(max_, Rest):
            max_.headers["x-app-id"] = NORTH
        used, current = "", token
        for _ in range(2):
            answer = await refresh(max_, current)
            payload = answer["authentication"]["payload"]
            assert answer["authentication"]["strategy"] == "refresh"
            assert {name: payload[name] for name in ("app_id", "tid", "org_id", "sid")} == {
                "app_id": HUB,
                "tid": NORTH,
                "org_id": manager.org_id,
                "sid": first["sid"],
            }
            assert payload["permissions"] == ["read:roles"]
            assert payload["exp"] - payload["iat"] <= 600
            assert (await max_.call("find", "roles"))["total"] >= 0
            used, current = current, answer["refreshToken"]
        again = await refusal(max_, "create", "authentication", {"strategy": "refresh", "refreshToken": used})
        assert (again.code, again.message) == (401, "Invalid refresh token")
        ended = await refusal(max_, "create", "authentication", {"strategy": "refresh", "refreshToken": current})
        assert ended.code == 401, "and the session is over, as it is at home"


async def test_a_socket_whose_token_has_expired_is_renewed_where_it_is(served: Roost) -> None:
    """TK-8, TK-13: the login is over, the connection is still in the child; `refresh` logs it in there again."""
    manager = await make_manager(served, "read:roles")
    async with persistent(served, "socket", HUB, manager.name) as (max_, token):
        await switch(max_, NORTH)
        expire(served, manager.user_id)
        assert (await refusal(max_, "find", "roles")).code == 401
        assert (await refresh(max_, token))["authentication"]["payload"]["org_id"] == manager.org_id
        assert (await max_.call("find", "roles"))["total"] >= 0


@pytest.mark.parametrize("is_expired", [False, True])
async def test_a_socket_stays_in_an_organization_of_its_own_app(served: Roost, is_expired: bool) -> None:
    """TK-10, TK-13: also where the organization is the app's own, and its rooms stay joined."""
    address, user_id = await make_person(served, NORTH)
    async with administrator(served, NORTH) as ada:
        org = await ada.call("create", "organizations", {"name": fresh("org")})
        role = await make_role(ada, "read:clients")
        await ada.call("create", "members", {"org_id": org["_id"], "user_id": user_id, "roles": [role]})
    async with persistent(served, "socket", NORTH, address) as (bob, token):
        await switch(bob, org["_id"])
        if is_expired:
            expire(served, user_id)
        (connection,) = [*served.connections.of(NORTH)]
        served.app.channels.join(connection, "room")
        answer = await refresh(bob, token)
        assert answer["authentication"]["payload"]["org_name"] == org["name"]
        assert "room" in connection.channels
        assert (await bob.call("find", "clients"))["total"] >= 0
        home = await refresh(bob, answer["refreshToken"], organization=None)
        assert "org_id" not in home["authentication"]["payload"]
        assert (await refusal(bob, "find", "clients")).code == 403
        back = await refresh(bob, home["refreshToken"], organization=org["name"])
        assert back["authentication"]["payload"]["org_id"] == org["_id"]
        assert (await bob.call("find", "clients"))["total"] >= 0


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_who_is_no_member_any_more_is_refused_and_loses_nothing(served: Roost, transport: str) -> None:
    """TK-7, TK-13: membership is checked at each refresh; the refresh token is not used up, and good at home."""
    manager = await make_manager(served, "read:roles")
    async with persistent(served, "http", HUB, manager.name) as (home, token):
        await leave(served, manager)
        async with connect(served, NORTH) if transport == "socket" else rest(served, NORTH) as there:
            error = await refusal(there, "create", "authentication", {"strategy": "refresh", "refreshToken": token})
            assert (error.code, error.data) == (403, NO_MEMBER)
        assert (await refresh(home, token))["authentication"]["payload"]["tid"] == HUB


async def test_a_refresh_token_says_nothing_in_an_app_with_which_its_user_has_nothing_to_do(served: Roost) -> None:
    """TK-2, PT-4: neither the control plane's in an app that one is no member of, nor an app's in another app."""
    manager = await make_manager(served, "read:roles")
    await linked(served, SOUTH)
    address, _ = await make_person(served, NORTH)
    async with persistent(served, "http", HUB, manager.name) as (_, token), rest(served, SOUTH) as south:
        error = await refusal(south, "create", "authentication", {"strategy": "refresh", "refreshToken": token})
        assert (error.code, error.data) == (403, NO_MEMBER)
        async with persistent(served, "http", NORTH, address) as (_, other):
            data = {"strategy": "refresh", "refreshToken": other}
            for app in (SOUTH, HUB):
                south.headers["x-app-id"] = app
                assert (await refusal(south, "create", "authentication", data)).code == 401
            south.headers["x-app-id"] = NORTH
            assert (await refresh(south, other))["authentication"]["payload"]["tid"] == NORTH


async def test_who_manages_every_app_renews_the_login_in_any(served: Roost) -> None:
    """TK-11, 1.4: `admin:organizations`, in no organization, stays what it is: no membership is asked for."""
    name, user_id = await make_person(served, HUB, "admin:organizations")
    org_id = await linked(served, NORTH)
    async with administrator(served, HUB) as ada:
        role = await make_role(ada, "read:clients")
        await ada.call("create", "members", {"org_id": org_id, "user_id": user_id, "roles": [role]})
    async with persistent(served, "http", HUB, name) as (home, token), connect(served, NORTH) as root:
        assert isinstance(home, Rest)
        await root.login_by(home.headers["Authorization"].split()[1])
        answer = await refresh(root, token)
        assert "org_id" not in answer["authentication"]["payload"]
        assert (await root.call("create", "roles", {"name": fresh("role")}))["_id"], "as whoever manages all"
    async with persistent(served, "http", HUB, name) as (_, token), rest(served, SOUTH) as south:
        await refresh(south, token)
        assert (await south.call("create", "roles", {"name": fresh("role")}))["_id"]


async def test_the_issuer_says_whether_logins_may_be_renewed(served: Roost) -> None:
    """TK-13: an app that does not list `refresh` keeps nobody from renewing what the control plane has issued."""
    manager = await make_manager(served, "read:roles", tenant_id=EAST)
    async with persistent(served, "http", HUB, manager.name) as (_, token), rest(served, EAST) as east:
        assert (await refresh(east, token))["authentication"]["payload"]["tid"] == EAST
        assert (await east.call("find", "roles"))["total"] >= 0


async def test_what_is_no_organization_or_no_refresh_token_uses_nothing_up(served: Roost) -> None:
    """TK-7: a client's mistakes cost it neither the token nor the session."""
    manager = await make_manager(served, "read:roles")
    async with persistent(served, "http", HUB, manager.name) as (_, token), rest(served, NORTH) as north:
        for organization in ("", 7, ["x"]):
            data = {"strategy": "refresh", "refreshToken": token, "organization": organization}
            assert (await refusal(north, "create", "authentication", data)).code == 400
        for forged in ("", 7, token[:-1] + "!", None, token + "0", f"rr_{'0' * 32}{token[35:]}"):
            wrong: dict[str, Any] = {"strategy": "refresh", "refreshToken": forged}
            assert (await refusal(north, "create", "authentication", wrong)).code == 401
        assert (await refresh(north, token))["authentication"]["payload"]["tid"] == NORTH
