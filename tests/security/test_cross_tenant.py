"""TENANCY 8.2.12, LIMITS T1, T2, T5: for every service, method and transport, the south gets nothing of the north's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from hooks.context import Params
from hooks.errors import NotFound
from server import wire
from server.main import Roost
from tests.security.apps import CANARY, MULTI, NORTH, SOUTH, Side, data_for, id_of, stored
from tests.security.probes.declarations import PROBES
from tests.support.client import CallError, connect, fresh, handshake, outcome, rest

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROBED = (
    *("messages", "notes", "codes", "drafts", "lobby"),
    *("users", "authentication", "rooms", "sessions", "api-keys", "audit-log"),
)
each_transport = pytest.mark.parametrize("transport", ["socket", "http"])
each_service = pytest.mark.parametrize("service", [*MULTI, "users"])


async def test_every_service_is_probed(alike: Roost) -> None:
    tenant = alike.catalogue.peek(NORTH)
    assert tenant is not None
    assert {*alike.app.services, *tenant.services} <= {*PROBED, *PROBES}
    assert {*PROBED} <= {*alike.app.services, *tenant.services}


async def victim(north: Side, service: str) -> dict[str, Any]:
    """A record of the north's; its events are taken."""
    record: dict[str, Any] = await north.socket.call("create", service, data_for(service, CANARY), {})
    await north.socket.take_events()
    return record


def without(text: str, *words: str) -> str:
    """A text with the words that must differ made equal."""
    for word in words:
        text = text.replace(word, "ID")
    return text


def told(answer: Any, *ids: str) -> str:
    """All that an answer says, ids aside."""
    return without(json.dumps(answer.wire if isinstance(answer, CallError) else answer), *ids)


@each_transport
@each_service
async def test_ids_of_others_are_ids_of_nothing(
    alike: Roost, north: Side, south: Side, service: str, transport: str
) -> None:
    record = await victim(north, service)
    before = await stored(alike, NORTH)
    caller, id, none = south.caller(transport), id_of(service, record), "65a0000000000000000000ff"
    data = {"text": "taken over"} | ({"username": fresh()} if service == "users" else {})
    calls: list[tuple[str, tuple[Any, ...]]] = [
        ("get", ({},)),
        ("get", ({"$select": ["text"]},)),
        ("get", ({"text": CANARY},)),
        ("patch", (data, {})),
        ("patch", ({}, {})),
        ("update", (data, {})),
        ("remove", ({},)),
        ("remove", ({"$or": [{"text": CANARY}, {"n": 1}]},)),
    ]
    for method, arguments in calls:
        there = await outcome(caller, method, service, id, *arguments)
        nowhere = await outcome(caller, method, service, none, *arguments)
        assert isinstance(there, CallError), (method, there)
        assert there.code == 404
        assert told(there, id) == told(nowhere, none)
    for odd in (f"{NORTH}/{id}", f"{NORTH}:{id}", f"{NORTH}.{id}", f"_id.i:{id}"):
        assert (await outcome(caller, "get", service, odd)).code in (400, 404)
    if transport == "socket":
        for bound in ({"a": NORTH, "i": id}, {"i": id, "a": NORTH}, {"$in": [id]}, [id], {"$oid": id}):
            for method, arguments in calls:
                assert (await outcome(caller, method, service, bound, *arguments)).code == 400
    assert await stored(alike, NORTH) == before
    await north.socket.quiet()
    await south.socket.take_events()


def queries(service: str, record: dict[str, Any]) -> list[dict[str, Any]]:
    """Queries that would find the record if nothing stood in between."""
    key = "code" if service == "codes" else "_id"
    id = id_of(service, record)
    return [
        {key: id},
        {key: {"$in": [id]}},
        {key: {"$in": [id, "x"]}},
        {key: {"$gte": id, "$lte": id}},
        {key: {"$gt": "0" * 24}},
        {key: {"$ne": "x"}},
        {key: {"$nin": ["x"]}},
        {"_id": {"$lt": "f" * 24}},
        {"$or": [{key: id}]},
        {"$or": [{key: id}, {"text": CANARY}]},
        {"$or": [{"none": 1}, {"$or": [{key: id}]}]},
        {"$and": [{key: id}]},
        {"$and": [{"$or": [{key: id}, {"n": 1}]}]},
        {"$and": [{"$and": [{"text": CANARY}]}]},
        {"text": CANARY},
        {"text": {"$gte": CANARY}},
        {"text": {"$in": [CANARY]}},
        {"tags": CANARY},
        {"tags.0": CANARY},
        {"n": {"$gt": 0}},
        {},
        {"none": {"$ne": 1}, "$sort": {key: -1}},
        {"$select": ["text"]},
        {"$limit": 1000},
        {"$skip": 0, "$sort": {"text": 1}},
        {"$limit": 0},
    ]


FORGED: list[dict[str, Any]] = [
    {"app_id": NORTH},
    {"app_id": "south"},
    {"app_id": {"$ne": "south"}},
    {"app_id": {"$in": [NORTH, "south"]}},
    {"$or": [{"app_id": NORTH}, {"n": 1}]},
    {"$and": [{"app_id": NORTH}]},
    {"$and": [{"$or": [{"app_id": {"$gt": ""}}]}]},
    {"$or": [{"$or": [{"app_id": NORTH}]}]},
    {"app_id.x": 1},
    {"x": {"app_id": NORTH}},
    {"x": {"$in": [{"app_id": NORTH}]}},
    {"$select": ["app_id"]},
    {"$select": ["text", "app_id.x"]},
    {"$sort": {"app_id": 1}},
    {"_id.a": NORTH},
    {"_id.i": "x"},
    {"_id": {"a": NORTH, "i": "x"}},
    {"_id": {"$in": [{"a": NORTH, "i": "x"}]}},
    {"$or": [{"_id.a": NORTH}]},
    {"$sort": {"_id.a": 1}},
    {"$where": "this.app_id"},
    {"$expr": {"$eq": ["$app_id", NORTH]}},
    {"text": {"$regex": "."}},
    {"text": {"$not": {"$eq": 1}}},
    {"$nor": [{"n": 5}]},
    {"$jsonSchema": {}},
    {"$text": {"$search": CANARY}},
    {"$comment": "x"},
    {"tags": {"$elemMatch": {"$eq": CANARY}}},
    {"text": {"$type": 2}},
    {"text": {"$exists": True}},
    {"n": {"$mod": [1, 0]}},
]


@each_transport
@each_service
async def test_no_query_reaches_others(alike: Roost, north: Side, south: Side, service: str, transport: str) -> None:
    record = await victim(north, service)
    own = [] if service == "users" else [await south.socket.call("create", service, data_for(service, "mine"), {})]
    before = await stored(alike, NORTH)
    caller = south.caller(transport)
    total = len((await stored(alike, "south"))["messages" if service == "drafts" else service])
    for query in queries(service, record):
        found = await outcome(caller, "find", service, query)
        assert not isinstance(found, CallError), (query, found)
        assert CANARY not in json.dumps(found)
        count = len(found) if isinstance(found, list) else found["total"]
        assert count <= total
    for query in FORGED:
        found = await outcome(caller, "find", service, query)
        if isinstance(found, CallError):
            assert found.code == 400, (query, found)
            assert found.message.strip()
        else:
            # Over HTTP an empty object is no parameter at all.
            assert (transport, query) == ("http", {"$jsonSchema": {}})
        if own:
            assert (await outcome(caller, "get", service, id_of(service, own[0]), query)) != record
    assert await stored(alike, NORTH) == before
    await north.socket.quiet()
    await south.socket.take_events()


@each_transport
@pytest.mark.parametrize("service", MULTI)
async def test_changes_of_many_end_at_the_border(
    alike: Roost, north: Side, south: Side, service: str, transport: str
) -> None:
    record = await victim(north, service)
    before = await stored(alike, NORTH)
    caller = south.caller(transport)
    for query in queries(service, record):
        assert CANARY not in json.dumps(await caller.call("patch", service, None, {"text": "changed"}, query))
    for query in FORGED:
        if transport == "socket":
            assert (await outcome(caller, "patch", service, None, {"text": "changed"}, query)).code == 400
            assert (await outcome(caller, "remove", service, None, query)).code == 400
    for query in queries(service, record):
        assert CANARY not in json.dumps(await caller.call("remove", service, None, query))
    assert await caller.call("remove", service, None, {}) == []
    assert await stored(alike, NORTH) == before
    await north.socket.quiet()
    await south.socket.take_events()


STAMPS: list[dict[str, Any]] = [
    {"app_id": NORTH},
    {"app_id": "south"},
    {"app_id": None},
    {"app_id": {"$eq": NORTH}},
    {"app_id.x": NORTH},
    {"x": {"app_id": NORTH}},
    {"x": [{"app_id": NORTH}]},
    {"x": [[{"y": {"app_id": NORTH}}]]},
    {"$set": {"app_id": NORTH}},
    {"$set": {"text": "x"}},
    {"$unset": {"app_id": ""}},
    {"$unset": {"text": ""}},
    {"$rename": {"text": "app_id"}},
    {"$setOnInsert": {"app_id": NORTH}},
    {"$push": {"tags": "x"}},
    {"$inc": {"n": 1}},
    {"$currentDate": {"app_id": True}},
    {"_id.a": NORTH},
    {"x.y": 1},
    {"$replaceRoot": {"newRoot": {}}},
]


@each_transport
@each_service
async def test_no_data_names_an_app(alike: Roost, north: Side, south: Side, service: str, transport: str) -> None:
    own = south.user
    if service != "users":
        own = await south.socket.call("create", service, data_for(service, "mine"), {})
    id = id_of(service, own)
    before, mine = await stored(alike, NORTH), await stored(alike, "south")
    caller = south.caller(transport)
    for stamp in STAMPS:
        forged = {**data_for(service, "forged"), **stamp}
        forged.pop("password", None)
        tries: list[tuple[Any, ...]] = [
            ("create", service, {**data_for(service, "forged"), **stamp}, {}),
            ("update", service, id, forged, {}),
            ("patch", service, id, stamp, {}),
        ]
        if service in MULTI:
            tries += [
                ("create", service, [data_for(service, "forged"), forged], {}),
                ("patch", service, None, stamp, {}),
            ]
        for method, path, *arguments in tries:
            answer = await outcome(caller, method, path, *arguments)
            assert isinstance(answer, CallError), (method, arguments)
            assert answer.code == 400
    assert await stored(alike, NORTH) == before
    assert await stored(alike, "south") == mine
    await north.socket.quiet()
    await south.socket.take_events()


@each_transport
@pytest.mark.parametrize("service", MULTI)
async def test_an_id_that_others_have_is_free(
    alike: Roost, north: Side, south: Side, service: str, transport: str
) -> None:
    for id in (fresh("chosen"), "65a0000000000000000000" + f"{len(fresh()):02x}"):
        theirs = await north.socket.call("create", service, data_for(service, CANARY, id), {})
        await north.socket.take_events()
        caller = south.caller(transport)
        mine = await caller.call("create", service, data_for(service, "mine", id), {})
        assert id_of(service, mine) == id_of(service, theirs) == id
        assert (await caller.call("get", service, id))["text"] == "mine"
        assert (await caller.call("patch", service, id, {"n": 2}, {}))["text"] == "mine"
        assert (await caller.call("remove", service, id, {}))["text"] == "mine"
        assert await north.socket.call("get", service, id, {}) == theirs
        await north.socket.call("remove", service, id, {})
        await north.socket.take_events()
    await south.socket.take_events()


@each_transport
async def test_events_stay_at_home(north: Side, south: Side, transport: str) -> None:
    for speaker, listener in ((north, south), (south, north)):
        for service in MULTI:
            caller = speaker.caller(transport)
            record = await caller.call("create", service, data_for(service, CANARY), {})
            id = id_of(service, record)
            await caller.call("patch", service, id, {"n": 5}, {})
            await caller.call("update", service, id, {"text": CANARY}, {})
            await caller.call("remove", service, id, {})
            await caller.call("create", service, [data_for(service, CANARY)] * 2, {})
            await caller.call("remove", service, None, {"text": CANARY})
            heard = await speaker.socket.take_events()
            assert len(heard) >= 8
        await caller.call("create", "users", data_for("users", CANARY), {})
        await caller.call("patch", "users", speaker.user["_id"], {"n": 1}, {})
        assert len(await speaker.socket.take_events()) == 2
        await listener.socket.quiet()


async def test_rooms_of_one_name_are_two_rooms(north: Side, south: Side) -> None:
    for side in (north, south):
        await side.socket.call("create", "rooms", {"service": "lobby", "room": "hall"}, {})
    for speaker, listener in ((north, south), (south, north)):
        record = await speaker.socket.call("create", "lobby", {"room": "hall", "text": "in the hall"}, {})
        assert [event.record for event in await speaker.socket.take_events()] == [record]
        await listener.socket.quiet()
    for room in ("north/hall", "north hall", "hall\0north", "../north/hall"):
        await outcome(south.socket, "create", "rooms", {"service": "lobby", "room": room}, {})
    for service in ("north/lobby", "roost:everyone", "lobby/../north"):
        assert (await outcome(south.socket, "create", "rooms", {"service": service, "room": "hall"}, {})).code >= 400
    await north.socket.call("create", "lobby", {"room": "hall", "text": "in the hall"}, {})
    await north.socket.take_events()
    await south.socket.quiet()
    for side in (north, south):
        for record in await side.socket.call("find", "rooms", {}):
            await side.socket.call("remove", "rooms", record["_id"], {})


async def test_sessions_stay_at_home(north: Side, south: Side) -> None:
    for caller in (south.socket, south.http):
        theirs = await north.socket.call("find", "sessions", {})
        assert theirs
        mine = await caller.call("find", "sessions", {})
        assert {one["_id"] for one in theirs}.isdisjoint(one["_id"] for one in mine)
        for session in theirs:
            refused = await outcome(caller, "remove", "sessions", session["_id"], {})
            unknown = await outcome(caller, "remove", "sessions", "65a0000000000000000000ff", {})
            assert refused.code in (404, 405)
            assert told(refused, session["_id"]) == told(unknown, "65a0000000000000000000ff")
        assert await north.socket.call("find", "sessions", {}) == theirs


def inside(roost: Roost, app_id: str) -> Params:
    """What the server's own calls are made with."""
    tenant = roost.catalogue.peek(app_id)
    assert tenant is not None
    return Params(tenant=tenant)


async def test_what_is_noted_of_people_stays_at_home(alike: Roost, north: Side, south: Side) -> None:
    login = {"strategy": "local", "username": north.user["username"], "password": "wrong-123"}
    await outcome(north.http, "create", "authentication", login)
    noted = wire.encode((await alike.app.call("audit-log", "find", inside(alike, NORTH))).outcome).decode()
    assert north.user["_id"] in noted
    own = wire.encode((await alike.app.call("audit-log", "find", inside(alike, SOUTH))).outcome).decode()
    assert south.user["_id"] in own
    assert north.user["_id"] not in own
    assert CANARY not in own
    for caller in (south.socket, south.http):
        assert north.user["_id"] not in json.dumps(told(await outcome(caller, "find", "audit-log", {})))


async def test_api_keys_stay_at_home(alike: Roost, north: Side, south: Side) -> None:
    made: Any = await alike.app.call("api-keys", "create", inside(alike, NORTH), data={"name": CANARY, "scopes": ["*"]})
    key: Any = made.result
    assert (await alike.app.call("api-keys", "find", inside(alike, SOUTH))).result == []
    with pytest.raises(NotFound):
        await alike.app.call("api-keys", "remove", inside(alike, SOUTH), id=key["_id"])
    for caller in (south.socket, south.http):
        for method, arguments in (("find", ({},)), ("remove", (key["_id"], {}))):
            assert (await outcome(caller, method, "api-keys", *arguments)).code in (401, 403, 404)
        login = {"strategy": "api_key", "key": key["key"]}
        assert (await outcome(caller, "create", "authentication", login)).code == 401
    for app_id, status in ((NORTH, 200), (SOUTH, 401)):
        async with rest(alike, app_id, Authorization=f"Bearer {key['key']}") as client:
            assert (await client.request("GET", "/messages")).status == status
    await alike.app.call("api-keys", "remove", inside(alike, NORTH), id=key["_id"])


async def test_tokens_stay_at_home(alike: Roost, north: Side, south: Side) -> None:
    user = north.user["_id"]
    async with rest(alike, "south", Authorization=f"Bearer {north.token}") as thief:
        for verb, path in (
            ("GET", "/messages"),
            ("GET", "/users"),
            ("GET", f"/users/{user}"),
            ("PATCH", f"/users/{user}"),
            ("DELETE", f"/users/{user}"),
            ("DELETE", "/authentication"),
        ):
            reply = await thief.request(verb, path, {} if verb == "PATCH" else None)
            assert (reply.status, reply.json["data"]) == (403, {"reason": "TenantMismatch"}), path
            assert CANARY not in reply.body.decode()
        assert (await thief.request("GET", "/notes")).status == 403
    async with connect(alike, "south") as thief_socket:
        refused = await outcome(
            thief_socket, "create", "authentication", {"strategy": "jwt", "accessToken": north.token}
        )
        assert (refused.code, refused.data) == (403, {"reason": "TenantMismatch"})
        assert (await outcome(thief_socket, "find", "messages")).code == 401
        assert (await outcome(thief_socket, "remove", "authentication", north.token)).code == 401
    assert (await outcome(south.socket, "remove", "authentication", north.token)).code == 401
    assert (await handshake(alike, "appId=south", headers={"Authorization": north.token}))[0] == "refused"
    assert await north.socket.call("find", "messages", {"$limit": 0})


async def test_names_and_passwords_stay_at_home(north: Side, south: Side) -> None:
    name = north.user["username"]
    for caller in (south.socket, south.http):
        login = {"strategy": "local", "username": name, "password": "secret-123"}
        refused = await outcome(caller, "create", "authentication", login)
        unknown = await outcome(caller, "create", "authentication", {**login, "username": "nobody-at-all"})
        assert refused.wire == unknown.wire
    twin = await south.socket.call("create", "users", {"username": name, "password": "other-456"}, {})
    assert twin["_id"] != north.user["_id"]
    assert (await outcome(north.http, "create", "authentication", {**login, "password": "other-456"})).code == 401
    await south.socket.take_events()


async def test_no_path_leads_to_the_other_side(alike: Roost, north: Side, south: Side) -> None:
    record = await victim(north, "notes")
    for path in (
        "north/notes",
        "notes/../north/notes",
        "../north/notes",
        "north:notes",
        "north.notes",
        f"{alike.settings.database}.notes",
        f"{alike.settings.database}_control/tenants",
        "tenants",
        "signing_keys",
        "system.views",
        "notes\0north",
        "roost:everyone",
    ):
        for method in ("find", "get", "create"):
            answer = await outcome(south.socket, method, path, {}, {})
            assert isinstance(answer, CallError), path
            assert answer.code in ((400, 403) if path == "tenants" else (400, 404)), path
    for headers in ({"x-app-id": "south, north"}, {"x-app-id": "NORTH"}, {"x-app-id": "north "}):
        reply = await south.http.request("GET", f"/notes/{record['_id']}", headers=headers)
        assert reply.status in (400, 401, 404) or headers["x-app-id"].strip() == NORTH
    reply = await south.http.request("GET", f"/notes/{record['_id']}?appId=north")
    assert reply.status == 404
    assert (await south.http.request("GET", "/users?appId=north")).json["data"] == []
    for forwarded in ("X-Forwarded-Host", "X-Original-URL", "X-Rewrite-URL", "X-HTTP-Method-Override", "Cookie"):
        reply = await south.http.request("GET", f"/notes/{record['_id']}", headers={forwarded: "north"})
        assert reply.status == 404


async def test_a_socket_cannot_change_sides(north: Side, south: Side) -> None:
    record = await victim(north, "notes")
    for query in ({"appId": NORTH}, {"x-app-id": NORTH}, {"tenant": NORTH}, {"provider": None}):
        assert await south.socket.call("find", "notes", {**query, "text": CANARY}) == []
        assert (await outcome(south.socket, "get", "notes", record["_id"], query)).code == 404
    login: Mapping[str, Any] = {"strategy": "local", "username": north.user["username"], "password": "secret-123"}
    for extra in ({"appId": NORTH}, {"tenant": {"id": NORTH}}, {"app": NORTH}):
        assert (await outcome(south.socket, "create", "authentication", {**login, **extra}, {})).code == 401
    refused = await outcome(south.socket, "create", "authentication", {**login, "app_id": NORTH}, {})
    assert refused.code in (400, 401)
