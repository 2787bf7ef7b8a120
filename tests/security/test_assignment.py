"""LIMITS Q5, Q6: what the server decides is not assigned by clients, and what it hides is not asked for, in any spelling."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from server.main import Roost
from tests.support.client import PASSWORD, Caller, CallError, Client, Rest, connect, fresh, outcome, rest
from tests.support.placed import database_of
from tests.support.roost import start_roost
from tests.support.tripwire import Tripwire

pytestmark = pytest.mark.asyncio(loop_scope="module")

APPS = """
tenants:
  - id: acme
    services:
      strict:
        schema: {text: {type: string}, profile: {type: object, additionalProperties: false}, additionalProperties: false}
        multi: true
        rules: {default: authenticated}
      loose:
        updates: [$set, $unset, $inc, $push, $min, $max, $addToSet]
        multi: true
        readonly: [role, appId, ownerId, verified, passwordHash, createdAt]
        rules: {default: authenticated}
"""
DECIDED = ("role", "appId", "ownerId", "verified", "passwordHash", "createdAt", "app_id")
"""Q5's fields, and the one by which tenants are told apart."""
OF_USERS = (
    "roles",
    "permissions",
    "app_id",
    "verified",
    "username_key",
    "tokens_valid_after",
    "tokens_kept",
    "is_system",
)
VALUE = "assigned-by-a-client"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def roost(mongod: str) -> AsyncIterator[Roost]:
    """A server with an app that forbids what it does not know, and one that lets all be written but a few fields."""
    tripwire = Tripwire()
    roost = await start_roost(mongod, APPS, tripwire=tripwire)
    yield roost
    await roost.drop()
    assert tripwire.violations == []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def socket(roost: Roost) -> AsyncIterator[Client]:
    async with connect(roost, "acme") as client:
        await client.sign_up(fresh("ada"))
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(roost: Roost, socket: Client) -> AsyncIterator[Rest]:
    async with rest(roost, "acme", Authorization=f"Bearer {socket.token}") as client:
        yield client


def spellings(field: str) -> list[dict[str, Any]]:
    """Ways to write a field: plain, dotted, nested, by operators."""
    return [
        {field: VALUE},
        {f"{field}.x": VALUE},
        {f"{field}.0": VALUE},
        {f"profile.{field}": VALUE},
        {"profile": {field: VALUE}},
        {"profile": {"deep": [{field: VALUE}]}},
        {"$set": {field: VALUE}},
        {"$set": {f"{field}.x": VALUE}},
        {"$push": {field: VALUE}},
        {"$addToSet": {field: VALUE}},
        {"$rename": {"text": field}},
        {"$max": {field: VALUE}},
        {"$setOnInsert": {field: VALUE}},
        {field: {"$set": VALUE}},
    ]


async def everything(roost: Roost, collection: str) -> list[dict[str, Any]]:
    """The app's records as the database has them; there are none of an app that a client has thought of."""
    records = database_of(roost)[collection]
    assert await records.find_one({"app_id": VALUE}) is None
    return [record async for record in records.find({"app_id": "acme"}, sort=[("_id", 1)])]


@pytest.mark.parametrize("field", DECIDED)
@pytest.mark.parametrize("service", ["strict", "loose"])
async def test_q5_no_client_assigns_what_the_server_decides(
    roost: Roost, socket: Client, http: Rest, service: str, field: str
) -> None:
    """Q5: mass assignment in create, update and patch, dotted and nested: ignored, or 400."""
    callers: tuple[Caller, Caller] = (socket, http)
    made = await socket.call("create", service, {"text": "x"}, {})
    for data in spellings(field):
        for caller in callers:
            answers = [
                await outcome(caller, "create", service, data, {}),
                await outcome(caller, "create", service, [{"text": "y"}, data], {}),
                await outcome(caller, "patch", service, made["_id"], {"text": "x", **data}, {}),
                await outcome(caller, "update", service, made["_id"], {"text": "x", **data}, {}),
                await outcome(caller, "patch", service, None, data, {"_id": made["_id"]}),
            ]
            errors = [answer for answer in answers if isinstance(answer, CallError)]
            assert {error.code for error in errors} <= {400}, data
            if service == "strict":
                assert len(errors) == len(answers), data
    for record in await everything(roost, service):
        assert record.get(field) == ("acme" if field == "app_id" else None), record
        assert (record["_id"]["a"], record["app_id"]) == ("acme", "acme")


@pytest.mark.parametrize("service", ["strict", "loose"])
async def test_q5_no_record_changes_its_id(roost: Roost, socket: Client, http: Rest, service: str) -> None:
    """Q5: `_id` in what changes a record."""
    made = await socket.call("create", service, {"text": "x"}, {})
    before = await everything(roost, service)
    for data in ({"_id": "other"}, {"_id.i": "other"}, {"$set": {"_id": "other"}}, {"_id": {"a": "globex", "i": "x"}}):
        for caller in (socket, http):
            for method in ("patch", "update"):
                answer = await outcome(caller, method, service, made["_id"], {"text": "x", **data}, {})
                assert answer.code == 400 if isinstance(answer, CallError) else answer == made, data
    assert await everything(roost, service) == before


@pytest.mark.parametrize("field", OF_USERS)
async def test_q5_no_user_assigns_himself_rights(roost: Roost, socket: Client, http: Rest, field: str) -> None:
    """Q5: the same for users, who may write a profile of their own: what counts is never among it."""
    name = fresh("eve")
    eve = await socket.call("create", "users", {"username": name, "password": PASSWORD}, {})
    [before] = [record for record in await everything(roost, "users") if record.get("username") == name]
    async with rest(roost, "acme") as own:
        await own.login(name)
        for data in spellings(field):
            for caller in (socket, http, own):
                made = await outcome(
                    caller, "create", "users", {"username": fresh("x"), "password": PASSWORD, **data}, {}
                )
                assert not isinstance(made, CallError) or made.code == 400, made
            for method in ("patch", "update"):
                answer = await outcome(own, method, "users", eve["_id"], {"username": name, **data}, {})
                assert not isinstance(answer, CallError) or answer.code == 400, answer
    users = await everything(roost, "users")
    for record in users:
        assert VALUE not in str(record.get(field)), record
        assert {*record} & {"roles", "permissions", "is_system", "verified"} == set()
    [after] = [record for record in users if record.get("username") == name]
    assert {**after, "profile": None} == {**before, "profile": None}


ASKED = ("password", "username_key", "tokens_valid_after", "tokens_kept")


@pytest.mark.parametrize("field", ASKED)
async def test_q6_what_is_hidden_is_refused_equally_whatever_it_is(
    roost: Roost, socket: Client, http: Rest, field: str
) -> None:
    """Q6: protected field in filter, sort, select, error text, event: the right value is refused as the wrong one is."""
    name = fresh("bob")
    bob = await socket.call("create", "users", {"username": name, "password": PASSWORD}, {})
    [stored] = [record for record in await everything(roost, "users") if record.get("username") == name]
    right, wrong = str(stored.get(field, "none")), "x"
    queries: list[Callable[[str], dict[str, Any]]] = [
        lambda value: {field: value},
        lambda value: {field: {"$gt": value}},
        lambda value: {"$or": [{field: value}, {"username": name}]},
        lambda value: {"$and": [{"$or": [{field: {"$in": [value]}}]}]},
        lambda value: {f"{field}.0": value},
        lambda value: {"$sort": {field: 1}},
        lambda value: {"$select": [field, "username"]},
        lambda value: {"$select": [f"{field}.x"]},
    ]
    for caller in (socket, http):
        for query in queries:
            for method, arguments in (("find", ()), ("get", (bob["_id"],)), ("remove", (bob["_id"],))):
                errors = [await outcome(caller, method, "users", *arguments, query(value)) for value in (right, wrong)]
                assert all(isinstance(error, CallError) and error.code == 400 for error in errors), errors
                assert errors[0].wire == errors[1].wire
                assert right == "none" or right not in str(errors[0].wire).replace(f"'{field}", "")
    async with connect(roost, "acme") as listener, rest(roost, "acme") as own:
        await listener.sign_up(fresh("ear"))
        await own.login(name)
        await own.call("patch", "users", bob["_id"], {"password": "another-horse-9", "colour": "red"})
        heard = [event for event in await listener.take_events() if event.name == "users patched"]
        assert [event.record["colour"] for event in heard] == ["red"]
        assert field not in str(heard)
