"""FEATHERS.md 2.2-2.4: every call is answered, in Feathers' forms."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from server.main import Roost
from tests.conftest import StartRoost
from tests.support.client import CallError, Client, connect, fresh, outcome

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ada(shared: Roost) -> AsyncIterator[Client]:
    """A logged-in user of acme."""
    async with connect(shared, "acme") as client:
        await client.sign_up(fresh("ada"))
        yield client


def any_of(*values: Any) -> tuple[Any, ...]:
    """Values of all kinds."""
    return values


@dataclass(frozen=True)
class CallScenario:
    """An event with its arguments, and what it is answered: a code and words, or a result."""

    name: str
    arguments: tuple[Any, ...]
    code: int = 0
    words: str = ""
    id: str = ""

    def __str__(self) -> str:
        return self.id or f"{self.name}{self.arguments!r}"[:60]


NONE_FOUND = "65a000000000000000000001"
LONG = "x" * 300

REFUSED = [
    # Arity, from nothing at all to far too much.
    *[CallScenario(method, (), 404, "Invalid service path") for method in any_of("find", "get", "create", "fly")],
    *[
        CallScenario("find", ("messages", {}, *range(more)), 400, "Too many arguments for 'find'")
        for more in (1, 2, 50)
    ],
    CallScenario("get", ("messages", NONE_FOUND, {}, 1), 400, "Too many arguments for 'get' method"),
    CallScenario("create", ("messages", {}, {}, {}), 400, "Too many arguments for 'create' method"),
    CallScenario("update", ("messages", "1", {}, {}, {}), 400, "Too many arguments for 'update' method"),
    CallScenario("patch", ("messages", "1", {}, {}, {}), 400, "Too many arguments for 'patch' method"),
    CallScenario("remove", ("messages", "1", {}, {}), 400, "Too many arguments for 'remove' method"),
    CallScenario("fly", ("messages", {}, {}, {}), 400, "Too many arguments for 'fly' method"),
    # Paths.
    *[
        CallScenario("find", (path, {}), 404, "Invalid service path")
        for path in any_of(None, 5, True, 1.5, [], {}, ["users"])
    ],
    *[
        CallScenario("find", (path, {}), 404, f"Service '{path.strip('/')}' not found")
        for path in any_of(
            "nothing",
            "",
            "constructor",
            "__proto__",
            "toString",
            "hasOwnProperty",
            "Messages",
            "messages ",
            "__class__",
            "socket.io",
            "health",
            "$where",
        )
    ],
    CallScenario("find", ("messages/1/2", {}), 404, "not found"),
    CallScenario("find", ("../messages", {}), 404, "not found"),
    CallScenario("find", ("\0", {}), 404, "not found"),
    CallScenario("find", (LONG, {}), 404, "not found", id="a long path"),
    CallScenario("find", ("/" * 10_000, {}), 404, "not found", id="a path of slashes"),
    # Methods.
    *[
        CallScenario(method, ("messages", {}, {}), 405, "not allowed on service 'messages'")
        for method in ("fly", "__proto__", "constructor", "toString", "__init__", "_parse", "id", "options", "")
    ],
    *[
        CallScenario(method, ("messages", {}, {}), 405, "not allowed")
        for method in any_of("setup", "hooks", "emit", "on")
    ],
    CallScenario("m" * 65, ("messages", {}), 405, "too long"),
    CallScenario("m" * 100_000, ("messages", {}), 405, "too long", id="a long method"),
    CallScenario("find", ("authentication", {}), 405, "Method 'find' not allowed on service 'authentication'"),
    CallScenario("patch", ("authentication", None, {}, {}), 405, "not allowed"),
    CallScenario("get", ("sealed", "1", {}), 405, "Method 'get' not allowed on service 'sealed'"),
    CallScenario("create", ("sealed", {}, {}), 405, "Method 'create' not allowed on service 'sealed'"),
    CallScenario("remove", ("sealed", None, {}), 405, "Method 'remove' not allowed on service 'sealed'"),
    # Queries that are none.
    *[
        CallScenario("find", ("messages", query), 400, "must be an object")
        for query in any_of(5, "x", True, [], [{}], 0)
    ],
    # Ids.
    CallScenario("get", ("messages", NONE_FOUND, {}), 404, f"No record found for id '{NONE_FOUND}'"),
    CallScenario("get", ("messages", "none", {}), 404, "No record found for id 'none'"),
    CallScenario("get", ("messages", 7, {}), 404, "No record found for id '7'"),
    *[
        CallScenario(method, ("messages", id, *data, {}), 400, "Invalid id")
        for method, data in (("get", ()), ("remove", ()), ("patch", ({"text": "x"},)), ("update", ({"text": "x"},)))
        for id in any_of(
            True,
            False,
            [],
            {},
            ["a"],
            {"$ne": None},
            {"$ne": "x"},
            {"$in": ["x"]},
            {"$gt": ""},
            {"a": "acme"},
            "",
            1.5,
            LONG,
            1e300,
        )
    ],
    CallScenario("get", ("messages", None, {}), 400, "Invalid id"),
    CallScenario("get", ("messages",), 400, "Invalid id"),
    CallScenario("update", ("messages", None, {"text": "x"}, {}), 400, "Did you mean 'patch'?"),
    CallScenario("update", ("messages", NONE_FOUND, [{"text": "x"}], {}), 400, "Did you mean 'patch'?"),
    CallScenario("update", ("messages", NONE_FOUND, {"text": "x"}, {}), 404, "No record found"),
    CallScenario("patch", ("messages", NONE_FOUND, {"text": "x"}, {}), 404, "No record found"),
    CallScenario("remove", ("messages", NONE_FOUND, {}), 404, "No record found"),
    # Data that is none.
    *[CallScenario("create", ("messages", data, {}), 400) for data in any_of(None, 5, "x", True, [5], [[]], [None])],
    CallScenario("create", ("messages",), 400),
    CallScenario("create", ("messages", {}, {}), 400, "validation failed"),
    CallScenario("create", ("messages", {"text": 5}, {}), 400, "validation failed"),
    CallScenario("create", ("messages", [{"text": "x"}, {}], {}), 400, "validation failed"),
    # Multi.
    CallScenario("create", ("users", [{"username": "a", "password": "secret-123"}], {}), 405, "multiple entries"),
    CallScenario("patch", ("users", None, {"x": 1}, {}), 405, "Can not patch multiple entries"),
    CallScenario("remove", ("users", None, {}), 405, "Can not remove multiple entries"),
    # Logins that are none.
    *[
        CallScenario("create", ("authentication", data, {}), 401, "no `strategy` set")
        for data in any_of(None, [], 5, "x", {}, {"strategy": ""}, {"strategy": None}, [{"strategy": "local"}])
    ],
    *[
        CallScenario("create", ("authentication", {"strategy": strategy}, {}), 401, "strategy not allowed")
        for strategy in any_of("magic", "Local", 5, ["local"], {"ne": ""})
    ],
    CallScenario("create", ("authentication", {"strategy": {"$ne": ""}}, {}), 400, "Invalid key '$ne'"),
    CallScenario("create", ("authentication", {"strategy": "jwt"}, {}), 401, "No access token"),
    CallScenario("create", ("authentication", {"strategy": "local"}, {}), 401, "Invalid login"),
]


@pytest.mark.parametrize("row", REFUSED, ids=str)
async def test_what_is_wrong_is_answered_with_an_error(ada: Client, row: CallScenario) -> None:
    answer = await ada.ack(row.name, *row.arguments)

    (error,) = answer
    assert error["code"] == row.code, error
    assert row.words in error["message"]
    assert set(error) <= {"name", "message", "code", "className", "data", "errors"}
    assert error["message"].strip()
    assert NAMES[error["code"]] == (error["name"], error["className"])
    await ada.quiet()


NAMES = {
    400: ("BadRequest", "bad-request"),
    401: ("NotAuthenticated", "not-authenticated"),
    404: ("NotFound", "not-found"),
    405: ("MethodNotAllowed", "method-not-allowed"),
}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("find", ("messages",)),
        ("find", ("messages", None)),
        ("find", ("messages", {})),
        ("find", ("/messages/", {})),
        ("find", ("messages/abc", {})),
        ("find", ("sealed", {})),
    ],
)
async def test_what_may_be_left_out_may_be_null(ada: Client, name: str, arguments: tuple[Any, ...]) -> None:
    answer = await ada.ack(name, *arguments)

    assert answer == (None, {"total": 0, "limit": 10, "skip": 0, "data": []})


async def test_a_result_comes_as_two_arguments(ada: Client) -> None:
    none, created = await ada.ack("create", "notes", {"text": "x", "list": [1], "none": None})
    assert none is None
    assert created == {"_id": created["_id"], "text": "x", "list": [1], "none": None}
    id = created["_id"]
    assert await ada.ack("get", "notes", id) == (None, created)
    assert await ada.ack("find", "notes", {"_id": id}) == (None, [created])
    assert await ada.ack("patch", "notes", id, {"n": 1}) == (None, {**created, "n": 1})
    assert await ada.ack("update", "notes", id, {"n": 2}) == (None, {"_id": id, "n": 2})
    assert await ada.ack("remove", "notes", id) == (None, {"_id": id, "n": 2})
    assert await ada.ack("remove", "notes", None, {"_id": id}) == (None, [])
    assert await ada.ack("create", "notes", [{"a": 1}, {"a": 2}]) != (None, [])
    await ada.take_events()


async def test_an_id_of_digits_may_be_sent_as_a_number(ada: Client) -> None:
    created = await ada.call("create", "notes", {"_id": 7, "text": "x"})
    assert created["_id"] == "7"
    assert await ada.call("get", "notes", 7) == created
    assert await ada.call("remove", "notes", "7") == created
    await ada.take_events()


async def test_a_call_without_acknowledgement_is_carried_out(ada: Client) -> None:
    text = fresh("unanswered")
    await ada.sio.emit("create", ("notes", {"text": text}, {}))
    assert (await ada.next_event()).record["text"] == text
    await ada.sio.emit("create", ("messages", {}, {}))
    await ada.quiet()
    assert ada.connected


async def test_calls_of_one_socket_run_side_by_side_and_are_all_answered(ada: Client) -> None:
    texts = [fresh("one-of-many") for _ in range(60)]
    created = await asyncio.gather(*(ada.call("create", "messages", {"text": text}, {}) for text in texts))

    assert [record["text"] for record in created] == texts
    heard = await ada.take_events()
    assert sorted(event.record["text"] for event in heard) == sorted(texts)


async def test_events_that_clients_must_not_send_are_answered_too(ada: Client) -> None:
    for name in ("connect", "disconnect", "connect_error", "ping", "error", "message"):
        answer = await outcome_of_reserved(ada, name)
        assert answer is None or answer[0]["code"] in (404, 405)
    assert ada.connected
    assert await ada.call("find", "sealed")


async def outcome_of_reserved(ada: Client, name: str) -> tuple[Any, ...] | None:
    """The answer, None when there is none: Socket.IO keeps some names to itself."""
    try:
        return await ada.ack(name, "messages", {}, {}, seconds=0.5)
    except TimeoutError:
        return None


async def test_validation_errors_name_each_fault(ada: Client) -> None:
    found = await outcome(ada, "create", "messages", {"n": "x"}, {})

    assert isinstance(found, CallError)
    assert found.wire["data"] == found.wire["errors"]
    assert sorted(fault["path"] for fault in found.data) == ["/", "/n"]


@pytest.mark.asyncio(loop_scope="function")
async def test_the_select_of_a_login_does_not_disturb_it(roosts: StartRoost) -> None:
    roost = await roosts()
    async with connect(roost, "acme") as client:
        await client.call("create", "users", {"username": "ada", "password": "secret-123"}, {})
        login = {"strategy": "local", "username": "ada", "password": "secret-123"}
        for select in (5, [{"a": 1}], {"user": 1}, None, [None, 5]):
            answer = await client.call("create", "authentication", login, {"$select": select})
            assert answer["user"]["username"] == "ada"
        cut = await client.call("create", "authentication", login, {"$select": ["accessToken"]})
        assert list(cut) == ["accessToken"]
