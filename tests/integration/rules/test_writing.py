"""Writing under rules: what a call makes of a record must be in its reach too, whatever happens at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from hooks.context import Params
from server.main import Roost
from tests.integration.rules.people import keep, make_user, sockets, stored, tenant_of
from tests.support.client import CallError, Client, outcome
from tests.support.roost import start_roost
from tests.support.tripwire import Tripwire

pytestmark = pytest.mark.asyncio(loop_scope="module")

APPS = """
tenants:
  - id: acme
    services:
      notes:
        multi: true
        updates: [$set, $unset, $push, $addToSet, $pull, $inc]
        rules: {default: {owner: $user._id}}
      boards:
        multi: true
        updates: [$addToSet, $pull]
        rules:
          default: {$or: [{owner: $user._id}, {members: $user._id}]}
          create: {owner: $user._id}
      drafts:
        collection: notes
        rules: {find: public, get: public, default: {owner: $user._id, locked: {$ne: true}}}
      shelf:
        id: code
        rules: {default: {owner: $user._id}}
      circles:
        multi: true
        rules: {default: {$or: [{_id: $user._id}, {members: $user._id}]}}
      mine:
        stamp: {_id: $user._id}
        rules: {default: {_id: $user._id}}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def roost(mongod: str) -> AsyncIterator[Roost]:
    tripwire = Tripwire()
    roost = await start_roost(mongod, APPS, tripwire=tripwire)
    for name in ("ada", "bob"):
        await make_user(roost, "acme", name, _id=name)
    yield roost
    await roost.drop()
    assert tripwire.violations == []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def people(roost: Roost) -> AsyncIterator[dict[str, Client]]:
    async with sockets(roost, "acme", {"ada": "ada", "bob": "bob", "stranger": None}) as clients:
        yield clients


async def refused(client: Client, method: str, service: str, *arguments: Any, code: int = 403) -> CallError:
    error = await outcome(client, method, service, *arguments)
    assert isinstance(error, CallError), error
    assert error.code == code, error
    return error


async def test_one_creates_only_what_one_reaches(roost: Roost, people: dict[str, Client]) -> None:
    ada = people["ada"]
    made = await ada.call("create", "notes", {"owner": "ada"})
    for data in ({}, {"owner": "bob"}, {"owner": None}, {"owner": {"ada": True}}):
        error = await refused(ada, "create", "notes", data)
        assert error.message == "You are not allowed to create such a record"
    await refused(ada, "create", "notes", [{"owner": "ada", "n": 1}, {"owner": "bob"}])
    await refused(people["stranger"], "create", "notes", {"owner": "ada"}, code=401)
    found = await ada.call("find", "notes", {"owner": "ada"})
    assert [record["_id"] for record in found["data"]] == [made["_id"]], "of a list with one refused, none is kept"


@pytest.mark.parametrize(
    "change",
    [
        {"owner": "bob"},
        {"owner": None},
        {"owner": ["bob"]},
        {"owner": {"_id": "ada"}},
        {"$set": {"owner": "bob"}},
        {"$unset": {"owner": True}},
        {"$set": {"owner": "bob"}, "$inc": {"n": 1}},
    ],
)
async def test_no_patch_moves_a_record_out_of_reach(
    roost: Roost, people: dict[str, Client], change: dict[str, Any]
) -> None:
    ada = people["ada"]
    made = await ada.call("create", "notes", {"_id": f"out-{change}"[:50], "owner": "ada", "n": 1})
    for client in people.values():
        await client.take_events()
    error = await refused(ada, "patch", "notes", made["_id"], change)
    assert error.message == "You are not allowed to change the record like this"
    if not any(key.startswith("$") for key in change):
        await refused(ada, "update", "notes", made["_id"], {"n": 2, **change})
    await refused(ada, "patch", "notes", None, change, {"n": 1})
    assert await ada.call("get", "notes", made["_id"]) == made
    for client in people.values():
        await client.quiet()


async def test_what_is_out_of_reach_is_not_there(roost: Roost, people: dict[str, Client]) -> None:
    (theirs,) = await keep(roost, "acme", "notes", {"_id": "theirs", "owner": "bob", "n": 1})
    ada = people["ada"]
    missing = await refused(ada, "get", "notes", "no-such", code=404)
    for method, arguments in (
        ("get", ()),
        ("patch", ({"n": 2},)),
        ("patch", ({"owner": "ada"},)),
        ("patch", ({},)),
        ("update", ({"owner": "ada"},)),
        ("remove", ()),
    ):
        for query in ({}, {"owner": "bob"}, {"$or": [{"owner": "bob"}, {"n": 1}]}, {"$and": [{"owner": "bob"}]}):
            error = await refused(ada, method, "notes", "theirs", *arguments, query, code=404)
            assert error.message == missing.message.replace("no-such", "theirs")
    for method, arguments in (("patch", ({"n": 2},)), ("patch", ({"owner": "ada"},)), ("remove", ())):
        assert await ada.call(method, "notes", None, *arguments, {"owner": "bob"}) == []
    assert (await stored(roost, "acme", "notes", "theirs") or {})["n"] == theirs["n"]


async def test_a_patch_that_stays_in_reach_is_made(roost: Roost, people: dict[str, Client]) -> None:
    ada = people["ada"]
    await ada.call("create", "notes", {"_id": "within", "owner": "ada"})
    assert (await ada.call("patch", "notes", "within", {"owner": ["ada", "bob"]}))["owner"] == ["ada", "bob"]
    assert (await people["bob"].call("patch", "notes", "within", {"$pull": {"owner": "ada"}}))["owner"] == ["bob"]
    await refused(ada, "get", "notes", "within", code=404)
    await refused(people["bob"], "patch", "notes", "within", {"$pull": {"owner": "bob"}})
    assert (await people["bob"].call("update", "notes", "within", {"owner": "bob", "n": 1}))["n"] == 1


async def test_many_records_are_changed_all_or_none(roost: Roost, people: dict[str, Client]) -> None:
    ada = people["ada"]
    await keep(roost, "acme", "boards", *({"_id": f"b{n}", "owner": "ada", "members": ["bob"]} for n in range(3)))
    await keep(roost, "acme", "boards", {"_id": "b9", "owner": "eve", "members": ["ada"]})
    for client in people.values():
        await client.take_events()
    await refused(ada, "patch", "boards", None, {"members": []}, {})
    assert (await stored(roost, "acme", "boards", "b1") or {})["members"] == ["bob"]
    changed = await ada.call("patch", "boards", None, {"members": ["ada"]}, {"$sort": {"_id": 1}})
    assert [record["_id"] for record in changed] == ["b0", "b1", "b2", "b9"]
    heard = [(event.name, event.record) for event in await people["bob"].take_events()]
    assert heard == [("boards removed", {"_id": f"b{n}"}) for n in range(3)]
    assert [event.name for event in await ada.take_events()] == ["boards patched"] * 4


async def test_a_list_that_decides_is_changed_by_many_at_once(roost: Roost, people: dict[str, Client]) -> None:
    ada = people["ada"]
    await ada.call("create", "boards", {"_id": "busy", "owner": "ada", "members": []})
    names = [f"member-{n}" for n in range(8)]
    answers = await asyncio.gather(
        *(outcome(ada, "patch", "boards", "busy", {"$addToSet": {"members": name}}) for name in names)
    )
    done = {name for name, answer in zip(names, answers, strict=True) if not isinstance(answer, CallError)}
    assert {answer.code for answer in answers if isinstance(answer, CallError)} <= {409}
    kept = await ada.call("get", "boards", "busy")
    assert {*kept["members"]} == done


async def test_a_race_ends_inside_of_everybodys_reach(roost: Roost, people: dict[str, Client]) -> None:
    """Two changes, each of which is right by itself: together they would leave the caller's reach."""
    for round in range(15):
        id = f"race-{round}"
        await keep(roost, "acme", "notes", {"_id": id, "owner": ["ada", "bob"]})
        await asyncio.gather(
            outcome(people["ada"], "patch", "notes", id, {"$pull": {"owner": "bob"}}),
            outcome(people["bob"], "patch", "notes", id, {"$pull": {"owner": "ada"}}),
        )
        left = (await stored(roost, "acme", "notes", id) or {})["owner"]
        assert left in (["ada"], ["bob"]), left


async def test_another_field_of_the_rule_that_changes_meanwhile_counts(roost: Roost, people: dict[str, Client]) -> None:
    """The server locks the record while its owner hands it on: the change is judged by what is there when it is made."""
    params = Params(tenant=await tenant_of(roost, "acme"))
    for round in range(10):
        id = f"lock-{round}"
        await keep(roost, "acme", "notes", {"_id": id, "owner": "ada"})
        await asyncio.gather(
            roost.app.call("notes", "patch", params, id=id, data={"locked": True}),
            outcome(people["ada"], "patch", "drafts", id, {"owner": ["ada", "bob"], "round": round}),
        )
        record = await stored(roost, "acme", "notes", id) or {}
        assert record["locked"] is True
    await refused(people["ada"], "patch", "drafts", "lock-0", {"n": 1}, code=404)


async def test_ids_of_their_own_and_ids_as_rules(roost: Roost, people: dict[str, Client]) -> None:
    ada, bob = people["ada"], people["bob"]
    made = await ada.call("create", "shelf", {"code": "c1", "owner": "ada"})
    await refused(bob, "patch", "shelf", "c1", {"owner": "bob"}, code=404)
    await refused(ada, "update", "shelf", "c1", {"n": 1})
    assert (await ada.call("update", "shelf", "c1", {"owner": "ada", "n": 1}))["_id"] == made["_id"]

    assert (await ada.call("create", "mine", {"_id": "bob", "n": 1}))["_id"] == "ada"
    await refused(ada, "create", "mine", {}, code=409)
    await refused(bob, "get", "mine", "ada", code=404)
    assert (await ada.call("patch", "mine", "ada", {"_id": "bob", "n": 2})) == {"_id": "ada", "n": 2}


async def test_a_rule_may_ask_for_the_id_beside_fields_that_change(people: dict[str, Client]) -> None:
    ada = people["ada"]
    await ada.call("create", "circles", {"_id": "ada", "members": ["ada"]})
    assert (await ada.call("patch", "circles", "ada", {"members": []}))["members"] == []
    assert (await ada.call("update", "circles", "ada", {"n": 1})) == {"_id": "ada", "n": 1}
    (many,) = await ada.call("patch", "circles", None, {"members": ["bob"]})
    assert (await people["bob"].call("get", "circles", "ada")) == many
    await refused(people["bob"], "patch", "circles", "ada", {"members": []})
    await refused(people["bob"], "create", "circles", {"_id": "eve", "members": []})


async def test_internal_calls_reach_everything(roost: Roost) -> None:
    params = Params(tenant=await tenant_of(roost, "acme"))
    await keep(roost, "acme", "notes", {"_id": "free"})
    for data in ({"owner": "bob"}, {"owner": None}, {"$unset": {"owner": 1}}):
        await roost.app.call("notes", "patch", params, id="free", data=data)


async def test_a_guard_is_for_one_call_and_not_handed_on(roost: Roost) -> None:
    """A hook that calls another service with the params of its own call neither widens nor narrows either of them."""
    params = Params(tenant=await tenant_of(roost, "acme"), provider="rest", user={"_id": "ada"}, authenticated=True)
    first = await roost.app.call("notes", "create", params, data={"_id": "handed", "owner": "ada"})
    guard = first.params.guard
    assert guard is not None
    handed = first.params.guarded(guard)
    handed.query = {}
    inner = await roost.app.call("mine", "find", handed)
    assert inner.params.guard is not None
    assert (inner.params.guard.scope, guard.scope, handed.guard) == ({"_id": "ada"}, {"owner": "ada"}, guard)
    handed.query = {}
    open_to_all = await roost.app.call("drafts", "find", handed)
    assert (open_to_all.params.guard, handed.guard) == (None, guard)
