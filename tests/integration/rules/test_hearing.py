"""Events under rules: who hears what at which moment, and what it costs."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio

from hooks.context import Params
from server.engine import Frame
from server.main import Roost
from services.channels import Channels
from tests.integration.rules.people import keep, make_user, sockets, tenant_of
from tests.support.client import PASSWORD, Client, connect, until
from tests.support.roost import start_roost
from tests.support.tripwire import Tripwire

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVICES = """
      notes: {rules: {default: authenticated, get: {$or: [{open: true}, {owner: $user._id}]}}}
      boards:
        multi: true
        updates: [$addToSet, $pull]
        schema: {members: {type: array, items: {type: string, objectid: true}}}
        hidden: [owner]
        rules: {default: authenticated, get: {$or: [{owner: $user._id}, {members: $user._id}]}}
      news: {rules: {default: authenticated, get: {permission: news}}}
      squads: {rules: {default: authenticated, get: {team: {$in: $user.teams}}}}
      talk:
        rooms: {by: room, join: authenticated}
        rules: {default: authenticated, get: {team: {$in: $user.teams}}}
      cards:
        id: code
        rules: {default: authenticated, get: {owner: $user._id}}
      posts:
        schema: {from: {type: string}, until: {type: integer}}
        rules: {default: {from: {$lte: $now}, until: {$gt: $now}}}
      all: {rules: {default: authenticated}}
"""
APPS = f"tenants:\n  - id: acme\n    services: {SERVICES}\n  - id: globex\n    services: {SERVICES}\n"
ADA, BOB = "65a0000000000000000000aa", "65a0000000000000000000bb"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def roost(mongod: str) -> AsyncIterator[Roost]:
    tripwire = Tripwire()
    roost = await start_roost(mongod, APPS, tripwire=tripwire)
    for app_id in ("acme", "globex"):
        await make_user(roost, app_id, "ada", _id=ADA, teams=["red"])
        await make_user(roost, app_id, "bob", _id=BOB, teams=["blue"])
    yield roost
    await roost.drop()
    assert tripwire.violations == []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def people(roost: Roost) -> AsyncIterator[Mapping[str, Client]]:
    async with (
        sockets(roost, "acme", {"ada": "ada", "bob": "bob", "stranger": None}) as here,
        sockets(roost, "globex", {"double": "ada"}) as there,
    ):
        yield {**here, **there}


async def heard(people: Mapping[str, Client]) -> dict[str, list[tuple[str, Any]]]:
    """What each has heard since the last time, of those who have heard anything."""
    found = {who: await client.take_events() for who, client in people.items()}
    return {who: [(event.name, event.record) for event in events] for who, events in found.items() if events}


async def test_who_loses_sight_of_a_record_hears_its_id_alone(people: Mapping[str, Client]) -> None:
    ada = people["ada"]
    made = await ada.call("create", "notes", {"owner": ADA, "text": "mine"})
    assert await heard(people) == {"ada": [("notes created", made)]}
    opened = await ada.call("patch", "notes", made["_id"], {"open": True})
    assert await heard(people) == {who: [("notes patched", opened)] for who in ("ada", "bob", "stranger")}
    closed = await ada.call("patch", "notes", made["_id"], {"open": False, "text": "secret"})
    gone = [("notes removed", {"_id": made["_id"]})]
    assert await heard(people) == {"ada": [("notes patched", closed)], "bob": gone, "stranger": gone}
    handed = await ada.call("update", "notes", made["_id"], {"owner": BOB, "text": "yours"})
    assert await heard(people) == {"ada": gone, "bob": [("notes updated", handed)]}
    await people["bob"].call("remove", "notes", made["_id"])
    assert await heard(people) == {"bob": [("notes removed", handed)]}


async def test_changes_of_other_fields_take_nobodys_sight(people: Mapping[str, Client]) -> None:
    ada = people["ada"]
    made = await ada.call("create", "notes", {"owner": ADA})
    patched = await ada.call("patch", "notes", made["_id"], {"n": 1})
    same = await ada.call("patch", "notes", made["_id"], {"owner": ADA, "open": False})
    nothing = await ada.call("patch", "notes", made["_id"], {})
    records = [made, patched, same, nothing]
    names = ["notes created", *["notes patched"] * 3]
    assert await heard(people) == {"ada": [*zip(names, records, strict=True)]}


async def test_members_come_and_go_and_what_is_hidden_decides_all_the_same(people: Mapping[str, Client]) -> None:
    ada = people["ada"]
    made = await ada.call("create", "boards", {"owner": ADA, "members": [], "name": "b"})
    assert "owner" not in made
    assert await heard(people) == {"ada": [("boards created", made)]}
    joined = await ada.call("patch", "boards", made["_id"], {"$addToSet": {"members": BOB}})
    assert joined["members"] == [BOB]
    assert await heard(people) == {who: [("boards patched", joined)] for who in ("ada", "bob")}
    left = await people["bob"].call("patch", "boards", made["_id"], {"$pull": {"members": BOB}})
    gone = [("boards removed", {"_id": made["_id"]})]
    assert await heard(people) == {"ada": [("boards patched", left)], "bob": gone}
    given = await ada.call("patch", "boards", made["_id"], {"owner": BOB})
    assert await heard(people) == {"ada": gone, "bob": [("boards patched", given)]}
    (many,) = await ada.call("patch", "boards", None, {"members": [ADA]}, {"name": "b"})
    assert await heard(people) == {who: [("boards patched", many)] for who in ("ada", "bob")}
    (many,) = await ada.call("patch", "boards", None, {"members": [], "owner": ADA}, {"name": "b"})
    assert await heard(people) == {"ada": [("boards patched", many)], "bob": gone}


async def test_the_servers_own_changes_obey_the_same_rules(roost: Roost, people: Mapping[str, Client]) -> None:
    (made,) = await keep(roost, "acme", "notes", {"owner": ADA})
    await heard(people)
    params = Params(tenant=await tenant_of(roost, "acme"))
    await roost.app.call("notes", "patch", params, id=str(made["_id"]), data={"owner": BOB})
    id = str(made["_id"])
    assert await heard(people) == {
        "ada": [("notes removed", {"_id": id})],
        "bob": [("notes patched", {"_id": id, "owner": BOB})],
    }


async def test_an_id_of_its_own_is_told_beside_the_id(people: Mapping[str, Client]) -> None:
    made = await people["ada"].call("create", "cards", {"code": "c1", "owner": ADA})
    await heard(people)
    await people["ada"].call("patch", "cards", "c1", {"owner": BOB})
    assert (await heard(people))["ada"] == [("cards removed", {"_id": made["_id"], "code": "c1"})]


async def test_what_hooks_make_of_a_record_decides_nothing(roost: Roost, people: Mapping[str, Client]) -> None:
    def disguise(context: Any) -> None:
        context.result["owner"] = BOB

    tenant = await tenant_of(roost, "acme")
    registration = roost.app.declared(tenant)["notes"]
    registration.add_hooks({"after": {"create": [disguise]}})
    try:
        await people["ada"].call("create", "notes", {"owner": ADA})
        assert [*await heard(people)] == ["ada"]
    finally:
        registration.hooks.by_kind["after"]["create"].clear()
        registration.recompile()


async def test_rooms_and_rules_both_count(people: Mapping[str, Client]) -> None:
    for who in ("ada", "bob"):
        await people[who].call("create", "rooms", {"service": "talk", "room": "hall"})
    red = await people["ada"].call("create", "talk", {"room": "hall", "team": "red"})
    assert await heard(people) == {"ada": [("talk created", red)]}
    blue = await people["ada"].call("patch", "talk", red["_id"], {"team": "blue"})
    assert await heard(people) == {
        "ada": [("talk removed", {"_id": red["_id"]})],
        "bob": [("talk patched", blue)],
    }
    await people["ada"].call("create", "talk", {"room": "elsewhere", "team": "red"})
    await people["bob"].call("remove", "rooms", "talk/hall")
    await people["ada"].call("patch", "talk", red["_id"], {"team": "red"})
    assert await heard(people) == {"ada": [("talk patched", {**blue, "team": "red"})]}
    await people["ada"].call("patch", "talk", red["_id"], {"room": "attic", "team": ["red", "green"]})
    assert await heard(people) == {}, "who is not in the room hears nothing of what goes there, but has not lost it"
    await people["ada"].call("remove", "rooms", "talk/hall")


async def test_a_permission_counts_from_the_moment_it_is_given(roost: Roost, people: Mapping[str, Client]) -> None:
    tenant = await tenant_of(roost, "acme")

    async def allow(id: str, *permissions: str) -> None:
        await roost.app.call("users", "patch", Params(tenant=tenant), id=id, data={"permissions": [*permissions]})
        await heard(people)

    async def readers() -> set[str]:
        await keep(roost, "acme", "news", {"text": "news"})
        return {*await heard(people)}

    assert await readers() == set()
    await allow(ADA, "news")
    assert await readers() == {"ada"}
    await allow(BOB, "other", "news")
    await allow(ADA)
    assert await readers() == {"bob"}
    await people["bob"].logout()
    assert await readers() == set()
    await people["bob"].login("bob", PASSWORD)
    await heard(people)
    assert await readers() == {"bob"}
    await allow(BOB)
    assert await readers() == set()


async def test_a_value_of_a_user_counts_until_it_changes_or_the_login_ends(
    roost: Roost, people: Mapping[str, Client]
) -> None:
    params = Params(tenant=await tenant_of(roost, "acme"))

    async def readers(team: str) -> set[str]:
        await heard(people)
        await keep(roost, "acme", "squads", {"team": team})
        return {*await heard(people)}

    assert (await readers("red"), await readers("blue")) == ({"ada"}, {"bob"})
    await roost.app.call("users", "patch", params, id=ADA, data={"teams": ["blue", "green"]})
    assert (await readers("red"), await readers("blue"), await readers("green")) == (set(), {"ada", "bob"}, {"ada"})
    await people["bob"].logout()
    assert await readers("blue") == {"ada"}
    await people["bob"].login("ada")
    assert await readers("green") == {"ada", "bob"}
    await people["bob"].login("bob")
    assert (await readers("green"), await readers("blue")) == ({"ada"}, {"ada", "bob"})
    async with connect(roost, "acme") as passing:
        await passing.login("bob")
        assert await readers("blue") == {"ada", "bob"}
        assert len(roost.app.readers.having("acme", "teams", ["blue"])) == 3
    await until(lambda: len(roost.app.readers.having("acme", "teams", ["blue"])) == 2)
    await roost.app.call("users", "patch", params, id=ADA, data={"teams": ["red"]})
    await heard(people)


async def test_time_passes_without_an_event(roost: Roost, people: Mapping[str, Client]) -> None:
    now = time.time() * 1000
    times = {"from": "2020-01-01T00:00:00Z", "until": int(now) + 400}
    await keep(roost, "acme", "posts", {"_id": "past", **times, "until": int(now) - 1000})
    await keep(roost, "acme", "posts", {"_id": "later", **times, "from": "2999-01-01T00:00:00.000Z"})
    assert await heard(people) == {}
    (made,) = await keep(roost, "acme", "posts", {"_id": "brief", **times})
    assert await heard(people) == {who: [("posts created", made)] for who in ("ada", "bob", "stranger")}
    assert [one["_id"] for one in (await people["ada"].call("find", "posts", {}))["data"]] == ["brief"]

    async def is_over() -> bool:
        return not (await people["ada"].call("find", "posts", {}))["data"]

    await until(is_over)
    assert await heard(people) == {}
    params = Params(tenant=await tenant_of(roost, "acme"))
    await roost.app.call("posts", "patch", params, id="brief", data={"text": "too late"})
    assert await heard(people) == {}


async def test_equal_ids_in_two_apps_are_two_people(roost: Roost, people: Mapping[str, Client]) -> None:
    for app_id, who in (("acme", "ada"), ("globex", "double")):
        (made,) = await keep(roost, app_id, "notes", {"_id": f"for-{who}", "owner": ADA})
        assert await heard(people) == {who: [("notes created", {"_id": made["_id"], "owner": ADA})]}
        params = Params(tenant=await tenant_of(roost, app_id))
        await roost.app.call("notes", "patch", params, id=made["_id"], data={"owner": BOB})
        told = await heard(people)
        assert told[who] == [("notes removed", {"_id": made["_id"]})]
        assert {*told} <= {who, "bob"}
        assert ("bob" in told) is (app_id == "acme")


async def test_a_broadcast_is_encoded_once_and_equality_asks_the_index(
    roost: Roost, people: Mapping[str, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    frames: list[str] = []
    make = Frame.__init__

    def count(frame: Frame, name: str, data: Any) -> None:
        frames.append(name)
        make(frame, name, data)

    async with AsyncExitStack() as stack:
        crowd = [await stack.enter_async_context(connect(roost, "acme")) for _ in range(8)]
        for member in crowd:
            await member.login("bob")
        await heard(people)
        monkeypatch.setattr(Frame, "__init__", count)
        for service, record, hearers in (
            ("all", {}, 8),
            ("notes", {"open": True}, 8),
            ("notes", {"owner": BOB}, 8),
            ("notes", {"owner": ADA}, 0),
        ):
            for member in crowd:
                await member.take_events()
            frames.clear()
            await keep(roost, "acme", service, record)
            assert frames == [f"{service} created"]
            assert sum([len(await member.take_events()) for member in crowd]) == hearers

        asked: list[str] = []
        members = Channels.members

        def watch(channels: Channels, tenant_id: str, names: Any) -> Any:
            asked.extend(names := tuple(names))
            return members(channels, tenant_id, names)

        monkeypatch.setattr(Channels, "members", watch)
        await keep(roost, "acme", "notes", {"owner": ADA})
        assert asked == [], "only the index of ids was asked"
    await heard(people)
