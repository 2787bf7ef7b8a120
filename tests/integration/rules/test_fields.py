"""LIMITS Q5, Q6: fields that one may not write or read cannot be written, read, asked by, or learned of otherwise."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio

from hooks.context import Params
from server.main import Roost
from services.declaration import DeclarationError, parse
from tests.integration.rules.people import keep, make_user, sockets, stored, tenant_of
from tests.support.client import PASSWORD, CallError, Client, fresh, outcome, rest
from tests.support.roost import start_roost
from tests.support.tripwire import Tripwire

pytestmark = pytest.mark.asyncio(loop_scope="module")

APPS = """
tenants:
  - id: acme
    services:
      notes:
        schema: {text: {type: string}, owner: {type: string, required: true}, role: {type: string}}
        multi: true
        operators: [$exists, $startsWith]
        updates: [$set, $unset, $inc, $push]
        hidden: [secret]
        readonly: [role, verified, created_by]
        stamp: {owner: $user._id, created_by: $user.username, at: $now, kind: note}
        rules: {default: authenticated, find: public, get: public}
      bare:
        paginate: false
        hidden: [secret]
        rules: {default: public}
      teams: {rules: {default: {team: $user.team}, create: authenticated}, stamp: {team: $user.team}}
"""
SECRET = "fish"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def roost(mongod: str) -> AsyncIterator[Roost]:
    tripwire = Tripwire()
    roost = await start_roost(mongod, APPS, tripwire=tripwire)
    await make_user(roost, "acme", "ada", _id="ada", team="red")
    await make_user(roost, "acme", "bob", _id="bob")
    yield roost
    await roost.drop()
    assert tripwire.violations == []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def people(roost: Roost) -> AsyncIterator[Mapping[str, Client]]:
    async with sockets(roost, "acme", {"ada": "ada", "bob": "bob", "stranger": None}) as clients:
        yield clients


async def fails(client: Any, code: int, method: str, service: str, *arguments: Any) -> CallError:
    error = await outcome(client, method, service, *arguments)
    assert isinstance(error, CallError), error
    assert error.code == code, error
    return error


# Hidden fields.


async def test_no_answer_and_no_event_has_a_hidden_field(roost: Roost, people: Mapping[str, Client]) -> None:
    ada, bob = people["ada"], people["bob"]
    made = await ada.call("create", "notes", {"text": "x", "secret": SECRET})
    many = await ada.call("create", "notes", [{"secret": {"deep": SECRET}}, {"secret": [SECRET]}])
    answers: list[Any] = [made, many]
    for query in ({}, {"$select": ["text"]}, {"$limit": 1}, {"$sort": {"text": 1}}):
        answers += [await ada.call("find", "notes", query), await ada.call("find", "bare", query)]
    answers += [
        await ada.call("get", "notes", made["_id"]),
        await ada.call("patch", "notes", made["_id"], {"text": "y"}),
        await ada.call("patch", "notes", None, {"n": 1}, {"_id": made["_id"]}),
        await ada.call("update", "notes", made["_id"], {"text": "z", "owner": "ada"}),
    ]
    assert (await stored(roost, "acme", "notes", made["_id"]) or {}).get("secret") is None
    async with rest(roost, "acme") as http:
        answers.append(await http.call("find", "notes", {}))
    answers += [await ada.call("remove", "notes", record["_id"]) for record in (made, *many)]
    answers += [event.record for event in await bob.take_events()]
    assert SECRET not in repr(answers)
    assert "secret" not in repr(answers)


async def test_a_replacement_keeps_what_a_client_cannot_see_or_write(
    roost: Roost, people: Mapping[str, Client]
) -> None:
    (kept,) = await keep(
        roost, "acme", "notes", {"_id": "kept", "owner": "ada", "secret": SECRET, "role": "chief", "x": 1}
    )
    ada = people["ada"]
    shown = await ada.call("update", "notes", kept["_id"], {"owner": "bob"})
    assert shown == {"_id": "kept", "owner": "bob", "role": "chief"}
    record = await stored(roost, "acme", "notes", "kept") or {}
    assert (record["secret"], record["role"], record["owner"], "x" in record) == (SECRET, "chief", "bob", False)
    await ada.call("update", "notes", kept["_id"], {"owner": "bob", "secret": "new"})
    assert (await stored(roost, "acme", "notes", "kept") or {})["secret"] == "new"


ASKING: tuple[dict[str, Any], ...] = (
    {"secret": SECRET},
    {"secret": {"$ne": None}},
    {"secret": {"$exists": True}},
    {"secret": {"$startsWith": "f"}},
    {"secret": {"$gt": ""}},
    {"secret.deep": SECRET},
    {"secret.0": SECRET},
    {"secret": {"deep": SECRET}},
    {"$or": [{"text": "x"}, {"secret": SECRET}]},
    {"$and": [{"$or": [{"secret": SECRET}]}]},
    {"$and": [{"secret": {"$in": [SECRET]}}]},
    {"$or": {"0": {"secret": SECRET}}},
    {"$and": {"0": {"secret": SECRET}, "length": 1}},
    {"$sort": {"secret": 1}},
    {"$sort": {"text": 1, "secret.deep": -1}},
    {"$select": ["secret"]},
    {"$select": ["text", "secret.deep"]},
    {"$sort": {"secret": 1}, "$after": None},
)


@pytest.mark.parametrize("query", ASKING, ids=repr)
async def test_nobody_asks_by_a_hidden_field(roost: Roost, people: Mapping[str, Client], query: dict[str, Any]) -> None:
    """The answer is the same whether the value is right or wrong, and on every method."""
    await keep(roost, "acme", "notes", {"_id": fresh("asked"), "owner": "ada", "secret": SECRET})
    ada = people["ada"]
    wrong = json.loads(json.dumps(query).replace(SECRET, "wrong"))
    for method, arguments in (
        ("find", ()),
        ("get", ("asked",)),
        ("patch", ("asked", {"n": 1})),
        ("patch", (None, {"n": 1})),
        ("update", ("asked", {"owner": "ada"})),
        ("remove", ("asked",)),
        ("remove", (None,)),
    ):
        right = await fails(ada, 400, method, "notes", *arguments, query)
        other = await fails(ada, 400, method, "notes", *arguments, wrong)
        assert (right.message, right.name) == (other.message, other.name)


async def test_what_changes_unseen_is_not_told(people: Mapping[str, Client]) -> None:
    """An event without a visible change would tell that the hidden field has another value now."""
    ada = people["ada"]
    made = await ada.call("create", "notes", {"text": "x"})
    for client in people.values():
        await client.take_events()
    await ada.call("patch", "notes", made["_id"], {"secret": "1"})
    await ada.call("patch", "notes", made["_id"], {"$set": {"secret": {"a": 1}}})
    await ada.call("patch", "notes", made["_id"], {"$inc": {"secret.a": 1}})
    await ada.call("patch", "notes", None, {"secret": "2"}, {"_id": made["_id"]})
    for client in people.values():
        await client.quiet()
    await ada.call("patch", "notes", made["_id"], {"secret": "3", "text": "y"})
    assert [event.name for event in await people["stranger"].take_events()] == ["notes patched"]


# Readonly fields and stamps.


@pytest.mark.parametrize(
    ("method", "data", "field"),
    [
        ("create", {"role": "chief"}, "role"),
        ("create", {"verified": True}, "verified"),
        ("create", [{"text": "x"}, {"role": "chief"}], "role"),
        ("create", {"created_by": "eve"}, "created_by"),
        ("patch", {"role": "chief"}, "role"),
        ("patch", {"$set": {"role": "chief"}}, "role"),
        ("patch", {"$set": {"role.name": "chief"}}, "role"),
        ("patch", {"$unset": {"role": 1}}, "role"),
        ("patch", {"$inc": {"verified": 1}}, "verified"),
        ("patch", {"$push": {"role": "chief"}}, "role"),
        ("update", {"owner": "ada", "role": "chief"}, "role"),
    ],
)
async def test_readonly_fields_are_refused_by_name(
    roost: Roost, people: Mapping[str, Client], method: str, data: Any, field: str
) -> None:
    (kept,) = await keep(roost, "acme", "notes", {"owner": "ada", "role": "clerk"})
    id = str(kept["_id"])
    arguments = (data,) if method == "create" else (id, data)
    error = await fails(people["ada"], 400, method, "notes", *arguments)
    assert f"'{field}'" in error.message
    async with rest(roost, "acme") as http:
        await http.login("ada")
        assert f"'{field}'" in (await fails(http, 400, method, "notes", *arguments)).message
    record = await stored(roost, "acme", "notes", kept["_id"])
    assert record is not None
    assert record["role"] == "clerk"


@pytest.mark.parametrize("field", ["role.name", "__proto__", "constructor", "app_id", "$set"])
async def test_no_spelling_of_a_key_gets_around(people: Mapping[str, Client], field: str) -> None:
    await fails(people["ada"], 400, "create", "notes", {field: "chief"})
    await fails(people["ada"], 400, "create", "notes", {"text": "x", "inner": {field: "chief"}})


async def test_stamps_say_whose_a_record_is(people: Mapping[str, Client]) -> None:
    made = await people["ada"].call("create", "notes", {"owner": "bob", "kind": "order", "at": "1970"})
    assert (made["owner"], made["created_by"], made["kind"]) == ("ada", "ada", "note")
    assert made["at"] > "2026"
    first, second = await people["bob"].call("create", "notes", [{"owner": "ada"}, {}])
    assert (first["owner"], second["owner"]) == ("bob", "bob")
    await fails(people["stranger"], 401, "create", "notes", {"owner": "ada"})
    error = await fails(people["bob"], 403, "create", "teams", {"team": "red"})
    assert "'team'" in error.message
    assert (await people["ada"].call("create", "teams", {"team": "blue"}))["team"] == "red"


# What rules ask of users is not theirs to say.


async def test_users_do_not_write_what_rules_ask_for(roost: Roost, people: Mapping[str, Client]) -> None:
    name = fresh("eve")
    error = await fails(
        people["stranger"], 400, "create", "users", {"username": name, "password": PASSWORD, "team": "red"}
    )
    assert "'team'" in error.message
    made = await people["stranger"].call("create", "users", {"username": name, "password": PASSWORD, "color": "red"})
    async with rest(roost, "acme") as eve:
        await eve.login(name)
        for data in ({"team": "red"}, {"permissions": ["admin"]}, {"roles": ["admin"]}):
            await fails(eve, 400, "patch", "users", made["_id"], data)
            await fails(eve, 400, "update", "users", made["_id"], {"username": name, **data})
        assert await outcome(eve, "find", "teams", {}) is not None
        await fails(eve, 403, "find", "teams", {})
        tenant = await tenant_of(roost, "acme")
        await roost.app.call("users", "patch", Params(tenant=tenant), id=made["_id"], data={"team": "red"})
        assert (await eve.call("update", "users", made["_id"], {"username": name}))["team"] == "red", "a PUT keeps it"
        assert (await eve.call("find", "teams", {}))["total"] >= 1


# What cannot be declared.


MISTAKES = [
    ("rules: {find: everybody}", "rules.find", "is one of public"),
    ("rules: {get: {owner: {$regex: x}}}", "rules.get", "is none of"),
    ("rules: {default: {any: [public, {app_id: x}]}}", "rules.default", "nothing that a rule can ask for"),
    ("rules: {fly: public}", "rules.fly", "is not a known key"),
    ("stamp: {app_id: x}", "stamp.app_id", "is not a known key"),
    ("stamp: {owner: $me}", "stamp.owner", "neither $now nor $user"),
    ("stamp: {owner: {a: 1}}", "stamp.owner", "is a text"),
    ("hidden: [app_id]", "hidden[0]", "field name"),
    ("hidden: [_id]", "hidden[0]", "field name"),
    ("{id: code, hidden: [code]}", "", "id of a record cannot be hidden"),
    ("{rooms: {by: room}, hidden: [room]}", "", "rooms cannot be hidden"),
    ("{search: [text], hidden: [text]}", "", "cannot be searched for"),
    ("{unique: [[text, code]], hidden: [code]}", "", "a conflict would tell"),
    ("{hidden: [code]}, drafts: {collection: notes, unique: [code]}", "", "a conflict would tell"),
    (
        "{search: [text]}, drafts: {collection: notes, search: [text], hidden: [text]}",
        "",
        "cannot be searched for",
    ),
]


@pytest.mark.parametrize(("service", "place", "reason"), MISTAKES)
async def test_what_cannot_be_declared(service: str, place: str, reason: str) -> None:
    body = service if service.startswith("{") else f"{{{service}}}"
    with pytest.raises(DeclarationError) as caught:
        parse(f"tenants: [{{id: acme, services: {{notes: {body}}}}}]")
    (mistake,) = caught.value.mistakes
    assert place in mistake
    assert reason in mistake
