"""A deployer's module adds services and custom methods without a fork."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from server.backend import StartError
from server.main import Roost
from tests.conftest import StartRoost
from tests.support.client import Client, connect, fresh, outcome, rest
from tests.support.roost import start_roost

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def extended(mongod: str) -> AsyncIterator[Roost]:
    roost = await start_roost(mongod, modules=("tests.integration.server.extension",))
    yield roost
    await roost.drop()


@pytest_asyncio.fixture(loop_scope="module")
async def ada(extended: Roost) -> AsyncIterator[Client]:
    async with connect(extended, "acme") as client:
        yield client


async def test_a_custom_method_is_called_over_both_transports(extended: Roost, ada: Client) -> None:
    expected = {"tenant": "acme", "user": None, "data": {"a": 1}}
    assert await ada.call("whoami", "desk", {"a": 1}, {}) == {**expected, "provider": "socketio"}
    async with rest(extended, "acme") as client:
        assert await client.call("whoami", "desk", {"a": 1}) == {**expected, "provider": "rest"}
    async with rest(extended, "globex") as client:
        assert (await client.call("whoami", "desk", {}))["tenant"] == "globex"
    await ada.quiet()


async def test_only_offered_methods_are_callable(extended: Roost, ada: Client) -> None:
    for method in ("kept_inside", "create", "get", "__init__", "mark"):
        assert (await outcome(ada, method, "desk", {}, {})).code == 405
    async with rest(extended, "acme") as client:
        assert (await outcome(client, "kept_inside", "desk", {})).code == 405
        assert (await client.request("POST", "/desk", {})).status == 405


async def test_errors_travel_whole_if_ours_and_tell_nothing_if_not(extended: Roost, ada: Client) -> None:
    ours = await outcome(ada, "fail", "desk", {"kind": "ours"}, {})
    assert ours.wire == {
        "name": "Conflict",
        "message": "Somebody was faster",
        "code": 409,
        "className": "conflict",
        "data": {"by": 1},
        "errors": [{"path": "/a", "message": "is taken"}],
    }
    assert (await outcome(ada, "fail", "desk", {"kind": "nothing"}, {})).wire["className"] == "not-implemented"
    async with rest(extended, "acme") as client:
        for kind in ("secret", "value", "no such kind"):
            for caller in (ada, client):
                assert (await outcome(caller, "fail", "desk", {"kind": kind})).wire == {
                    "name": "GeneralError",
                    "message": "Something went wrong on the server.",
                    "code": 500,
                    "className": "general-error",
                }


async def test_values_without_a_wire_form_are_answered_all_the_same(extended: Roost, ada: Client) -> None:
    assert await ada.call("odd", "desk", {}, {}) == {"nan": None, "infinite": None, "tuple": [1, 2], "set": [1]}
    assert (await outcome(ada, "unspeakable", "desk", {}, {})).code == 500
    async with rest(extended, "acme") as client:
        assert (await outcome(client, "unspeakable", "desk", {})).code == 500
        marked = await client.request("POST", "/desk", {}, headers={"X-Service-Method": "odd"})
        assert (marked.status, marked.headers["X-Marked"]) == (202, "yes")


async def test_placeholders_of_the_path_arrive_in_the_route(extended: Roost, ada: Client) -> None:
    assert (await outcome(ada, "find", "rooms/7/desk", {})).code == 401
    await ada.sign_up(fresh("ada"))
    assert await ada.call("find", "rooms/7/desk", {}) == [{"route": {"room": "7"}}]
    async with rest(extended, "acme", Authorization=str(ada.token)) as client:
        assert await client.call("find", "rooms/a%20b/desk", {}) == [{"route": {"room": "a b"}}]


async def test_a_changed_user_is_seen_by_later_calls_of_all_its_sockets(extended: Roost, ada: Client) -> None:
    user = await ada.sign_up(fresh("ada"))
    async with connect(extended, "acme") as second, rest(extended, "acme", Authorization=str(ada.token)) as client:
        await second.login(user["username"])
        await client.call("patch", "users", user["_id"], {"colour": "red"})
        for caller in (ada, second):
            assert (await caller.call("whoami", "desk", {}, {}))["user"] == {**user, "colour": "red"}
        await ada.call("update", "users", user["_id"], {"username": user["username"], "colour": "blue"}, {})
        assert (await second.call("whoami", "desk", {}, {}))["user"]["colour"] == "blue"
        await ada.call("remove", "users", user["_id"], {})
        for caller in (ada, second):
            assert (await caller.call("whoami", "desk", {}, {}))["user"] is None


@pytest.mark.parametrize(("module", "words"), [("no.such.module", "cannot be imported"), ("json", "configure")])
@pytest.mark.asyncio(loop_scope="function")
async def test_a_module_that_is_none_stops_the_start(roosts: StartRoost, module: str, words: str) -> None:
    with pytest.raises(StartError, match=words):
        await roosts(modules=(module,))
