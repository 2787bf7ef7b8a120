"""FEATHERS.md 2.6: logins belong to the connection, end in place, and leave nothing of themselves behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from server.main import Roost
from services.authentication.tokens import Tokens
from services.channels import AUTHENTICATED, EVERYONE
from tests.conftest import StartRoost
from tests.support.client import CallError, Client, connect, fresh, outcome, rest, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def is_logged_in(client: Client) -> bool:
    found = await outcome(client, "find", "users", {"$limit": 0})
    return not (isinstance(found, CallError) and found.code == 401)


async def is_stranger(client: Client) -> bool:
    return not await is_logged_in(client)


async def short_token(roost: Roost, user: Any, seconds: int = 1) -> str:
    """A token of acme that ends within so many seconds."""
    tenant = roost.catalogue.peek("acme")
    assert tenant is not None
    token, _ = await Tokens(roost.backend.keys, lifetime=seconds).issue(tenant, user["_id"])
    return token


async def test_a_login_answers_with_token_claims_and_user(shared: Roost) -> None:
    async with connect(shared, "acme") as ada:
        name = fresh("ada")
        user = await ada.call("create", "users", {"username": name, "password": "secret-123", "colour": "red"}, {})
        answer = await ada.login(name.upper())

        assert set(answer) == {"accessToken", "authentication", "user"}
        assert answer["user"] == user == {"_id": user["_id"], "username": name, "colour": "red"}
        assert answer["authentication"]["strategy"] == "local"
        payload = answer["authentication"]["payload"]
        assert payload["sub"] == user["_id"]
        assert payload["app_id"] == "acme"
        assert payload["exp"] - payload["iat"] == shared.settings.token_lifetime

        again = await ada.login_by(answer["accessToken"])
        assert again["accessToken"] == answer["accessToken"]
        assert again["authentication"]["strategy"] == "jwt"
        assert again["authentication"]["payload"] == payload
        assert again["user"] == user


async def test_sign_up_is_no_login(shared: Roost) -> None:
    async with connect(shared, "acme") as ada:
        await ada.call("create", "users", {"username": fresh(), "password": "secret-123"}, {})
        assert not await is_logged_in(ada)


async def test_logins_do_not_reach_other_sockets(shared: Roost) -> None:
    async with connect(shared, "acme") as ada, connect(shared, "acme") as bob:
        await ada.sign_up(fresh())
        assert await is_logged_in(ada)
        assert not await is_logged_in(bob)


@pytest.mark.parametrize("id", ["null", "token"])
async def test_logout_answers_as_the_login_did_and_keeps_the_socket(shared: Roost, id: str) -> None:
    async with connect(shared, "acme") as ada:
        user = await ada.sign_up(fresh())
        answer = await ada.call("remove", "authentication", None if id == "null" else ada.token, {})

        assert answer["user"] == user
        assert answer["accessToken"] == ada.token
        assert ada.connected
        assert not await is_logged_in(ada)
        assert (await outcome(ada, "remove", "authentication", None, {})).code == 401
        refused = await outcome(ada, "create", "authentication", {"strategy": "jwt", "accessToken": ada.token}, {})
        assert (refused.code, refused.data) == (401, {"name": "SessionEndedError"}), "its session has ended"


async def test_logout_with_another_token_is_refused(shared: Roost) -> None:
    async with connect(shared, "acme") as ada, connect(shared, "acme") as bob:
        await ada.sign_up(fresh())
        await bob.sign_up(fresh())
        for id in (bob.token, "x", {"a": 1}, 5, True, ""):
            refused = await outcome(ada, "remove", "authentication", id, {})
            assert (refused.code, refused.message) == (401, "Invalid access token")
        assert await is_logged_in(ada)
        assert await is_logged_in(bob)


BAD_LOGINS: list[dict[str, Any]] = [
    {"strategy": "local", "username": "NAME", "password": "wrong-123"},
    {"strategy": "local", "username": "nobody", "password": "secret-123"},
    {"strategy": "local", "username": "NAME"},
    {"strategy": "local", "password": "secret-123"},
    {"strategy": "local", "email": "NAME", "password": "secret-123"},
    {"strategy": "local", "username": "NAME", "password": None},
    {"strategy": "local", "username": "NAME", "password": ""},
    {"strategy": "local", "username": "NAME", "password": 5},
    {"strategy": "local", "username": "NAME", "password": True},
    {"strategy": "local", "username": "NAME", "password": ["secret-123"]},
    {"strategy": "local", "username": "NAME", "password": {"ne": ""}},
    {"strategy": "local", "username": ["NAME"], "password": "secret-123"},
    {"strategy": "local", "username": {"in": ["NAME"]}, "password": "secret-123"},
    {"strategy": "local", "username": True, "password": "secret-123"},
    {"strategy": "local", "username": "NAME\0", "password": "secret-123"},
    {"strategy": "local", "username": "N" * 5000, "password": "secret-123"},
    {"strategy": "local", "username": "NAME", "password": "secret-123" * 50},
    {"strategy": "jwt", "accessToken": "x"},
    {"strategy": "jwt", "accessToken": "a.b.c"},
    {"strategy": "jwt", "accessToken": {"ne": ""}},
    {"strategy": "jwt", "accessToken": 5},
    {"strategy": "jwt"},
    {"strategy": "magic"},
    {},
]


async def test_a_failed_login_leaves_an_earlier_one_in_place(shared: Roost) -> None:
    async with connect(shared, "acme") as ada, connect(shared, "acme") as stranger:
        name = fresh("ada")
        await ada.sign_up(name)
        for data in BAD_LOGINS:
            sent = {key: name if value == "NAME" else value for key, value in data.items()}
            for client in (ada, stranger):
                refused = await outcome(client, "create", "authentication", sent, {})
                assert refused.code == 401, data
                if data.get("strategy") == "local":
                    assert refused.message == "Invalid login"
                    assert refused.data is None
            assert await is_logged_in(ada)
            assert not await is_logged_in(stranger)


async def test_another_login_takes_the_place_of_the_first(shared: Roost) -> None:
    async with connect(shared, "acme") as client:
        first = await client.sign_up(fresh("first"))
        second = await client.sign_up(fresh("second"))
        assert (await outcome(client, "patch", "users", first["_id"], {"x": 1}, {})).code == 404
        assert (await client.call("patch", "users", second["_id"], {"x": 1}, {}))["x"] == 1


async def test_an_expired_token_logs_out_in_place(shared: Roost) -> None:
    async with connect(shared, "acme") as speaker, connect(shared, "acme") as ada:
        user = await ada.sign_up(fresh("ada"))
        await speaker.sign_up(fresh("bob"))
        name = user["username"]
        await ada.login_by(await short_token(shared, user))
        assert await is_logged_in(ada)
        await until(lambda: is_stranger(ada))

        assert ada.connected
        await ada.take_events()
        await speaker.call("create", "messages", {"text": "not for strangers"}, {})
        await ada.quiet()
        await speaker.call("create", "notes", {"text": "for all"}, {})
        assert (await ada.next_event()).record["text"] == "for all"

        await ada.login(name)
        assert await is_logged_in(ada)
        await speaker.call("create", "messages", {"text": "heard again"}, {})
        assert (await ada.next_event()).record["text"] == "heard again"


async def test_the_end_of_an_old_token_does_not_end_a_newer_login(shared: Roost) -> None:
    async with connect(shared, "acme") as ada:
        user = await ada.sign_up(fresh("ada"))
        old = await short_token(shared, user)
        await ada.login_by(old)
        await ada.login(user["username"])
        async with connect(shared, "acme") as other:
            await other.login_by(old)
            await until(lambda: is_stranger(other))
        assert await is_logged_in(ada)


async def test_a_removed_user_is_logged_out_everywhere(shared: Roost) -> None:
    async with connect(shared, "acme") as one, connect(shared, "acme") as two, connect(shared, "acme") as other:
        user = await one.sign_up(fresh("gone"))
        await two.login(user["username"])
        await other.sign_up(fresh("stays"))
        assert (await one.call("remove", "users", user["_id"], {}))["_id"] == user["_id"]

        for client in (one, two):
            assert not await is_logged_in(client)
            assert (
                await outcome(client, "create", "authentication", {"strategy": "jwt", "accessToken": one.token})
            ).code == 401
        assert await is_logged_in(other)
        await two.take_events()
        await other.call("create", "messages", {"text": "x"}, {})
        await two.quiet()
        async with rest(shared, "acme", Authorization=f"Bearer {two.token}") as late:
            assert (await late.request("GET", "/users")).status == 401


async def test_one_may_change_oneself_alone(shared: Roost) -> None:
    async with connect(shared, "acme") as ada, connect(shared, "acme") as bob:
        mine = await ada.sign_up(fresh("ada"))
        yours = await bob.sign_up(fresh("bob"))
        for method, data in (("patch", ({"x": 1},)), ("update", ({"username": "taken-over"},)), ("remove", ())):
            refused = await outcome(ada, method, "users", yours["_id"], *data, {})
            assert refused.code == 404
            for query in ({"_id": yours["_id"]}, {"$or": [{"_id": yours["_id"]}]}, {"$and": [{"_id": yours["_id"]}]}):
                assert (await outcome(ada, method, "users", yours["_id"], *data, query)).code == 404
        assert await ada.call("get", "users", yours["_id"]) == yours
        assert (await ada.call("patch", "users", mine["_id"], {"x": 1}, {}))["x"] == 1


async def test_a_new_password_is_the_only_one(shared: Roost) -> None:
    async with connect(shared, "acme") as ada:
        user = await ada.sign_up(fresh("ada"))
        await ada.call("patch", "users", user["_id"], {"password": "another-456"}, {})
        assert (await outcome(ada, "create", "authentication", {"strategy": "local", **login_of(user)})).code == 401
        await ada.login(user["username"], "another-456")


def login_of(user: Any) -> dict[str, str]:
    return {"username": user["username"], "password": "secret-123"}


async def test_login_works_as_the_first_packet_and_side_by_side(shared: Roost) -> None:
    async with connect(shared, "acme") as first:
        await first.sign_up(fresh("ada"))
    async with connect(shared, "acme") as again:
        answers = await asyncio.gather(
            again.login_by(first.token), *(outcome(again, "find", "users", {}) for _ in range(5))
        )
        assert answers[0]["accessToken"] == first.token
        assert all(isinstance(answer, dict) or answer.code == 401 for answer in answers[1:])
        assert await is_logged_in(again)


@pytest.mark.asyncio(loop_scope="function")
async def test_a_socket_that_leaves_during_its_login_leaves_nothing(roosts: StartRoost) -> None:
    roost = await roosts()
    async with connect(roost, "acme") as ada:
        await ada.sign_up("ada")
        for _ in range(5):
            async with connect(roost, "acme") as leaver:
                data = {"strategy": "local", "username": "ada", "password": "secret-123"}
                await leaver.sio.emit("create", ("authentication", data, {}))
        await until(lambda: roost.connections.count() == 1 and not roost.people.passwords._pending)
        await ada.login("ada")
        members = [*roost.app.channels.members("acme", [AUTHENTICATED, EVERYONE])]
        assert len(members) == 1
