"""LIMITS P2-P7, P11, Q1-Q3, Q5 and FEATHERS.md 10: what no client should send is answered, never stored, and harms nobody."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from server.main import Roost
from tests.security.apps import NORTH, Side, stored
from tests.support.client import CallError, outcome, rest, wire

pytestmark = pytest.mark.asyncio(loop_scope="module")


def any_of(*values: Any) -> tuple[Any, ...]:
    """Values of all kinds."""
    return values


@dataclass(frozen=True)
class Bad:
    """A packet's JSON, and the code of its answer; `may_close` where the socket may be closed instead."""

    text: str
    code: int | tuple[int, ...] = 400
    may_close: bool = False

    def __str__(self) -> str:
        return self.text if len(self.text) <= 70 else f"{self.text[:50]}...{len(self.text)}"


def call(method: str, path: str, *arguments: Any) -> str:
    return json.dumps([method, path, *arguments])


def nested(depth: int, inner: str = "1", opened: str = '{"a":', closed: str = "}") -> str:
    return opened * depth + inner + closed * depth


IDS: list[Any] = [
    {},
    [],
    True,
    False,
    {"$ne": None},
    {"$ne": "x"},
    {"$gt": ""},
    {"$in": ["x"]},
    {"$exists": True},
    ["x"],
    [["x"]],
    {"a": NORTH, "i": "x"},
    {"toString": "x"},
]
ODD_IDS: list[Any] = ["", "x" * 257, "x" * 10_000, 1.5, 1e300, -0.5]
"""What can be no record's id, though it is a scalar."""
CONDITIONS = {"$ne", "$gt", "$in"}
OPERATORS = (
    "$where $expr $function $accumulator $lookup $regex $options $text $search $jsonSchema $out $merge $exists $type $mod "
    "$all $elemMatch $size $not $nor $near $geoWithin $bitsAllSet $comment $rand $eq $natural $meta $slice $set $unset $"
).split()
UPDATES = (
    "$set $unset $inc $push $pull $pullAll $addToSet $rename $min $max $mul $currentDate $setOnInsert $bit".split()
)
KEYS = [
    "$where",
    "$",
    "$$ROOT",
    "a.b",
    ".",
    "a.",
    ".a",
    "",
    "\0",
    "a\0b",
    "__proto__",
    "constructor",
    "prototype",
    "__class__",
    "__init__",
    "__dict__",
    "k" * 257,
]
NUMBERS = ["NaN", "Infinity", "-Infinity", "1e400", "-1e400"]
HUGE = str(2**63), str(-(2**63) - 1), str(2**64), "1" + "0" * 30, "1" + "0" * 1000

ROWS = [
    # Ids that are no scalars, everywhere where an id is taken. An object would be a condition.
    *[
        Bad(call(method, service, id, *data, {}))
        for service in ("notes", "codes")
        for method, data in (("get", ()), ("remove", ()), ("patch", ({"x": 1},)), ("update", ({"x": 1},)))
        for id in IDS
    ],
    *[Bad(call(method, "notes", id, {}), (400, 404)) for method in any_of("get", "remove") for id in ODD_IDS],
    *[
        Bad(call(method, "notes", id, {"x": 1}, {}), (400, 404))
        for method in any_of("patch", "update")
        for id in ODD_IDS
    ],
    *[Bad(call("find", "notes", {"_id": {"$in": [id]}})) for id in IDS if not isinstance(id, bool)],
    *[Bad(call("find", "notes", {"$or": [{"_id": id}]})) for id in any_of([], {}, {"x": 1}, {"$where": "1"})],
    *[Bad(call("create", "notes", {"_id": id}, {})) for id in [*IDS, *ODD_IDS]],
    *[Bad(call("create", "codes", {"code": id}, {})) for id in IDS],
    Bad(call("get", "notes", None, {})),
    Bad(call("get", "codes", None, {})),
    # Operators that are not on the list, in every position.
    *[Bad(call("find", "notes", {operator: "1"})) for operator in OPERATORS],
    *[Bad(call("find", "notes", {"x": {operator: "1"}})) for operator in OPERATORS],
    *[Bad(call("find", "notes", {"x": {"$in": [{operator: "1"}]}})) for operator in OPERATORS],
    *[Bad(call("find", "notes", {"x": [{"y": {operator: "1"}}]})) for operator in OPERATORS],
    *[Bad(call("find", "notes", {"$or": [{"x": {operator: "1"}}]})) for operator in OPERATORS],
    *[Bad(call("find", "notes", {"$and": [{"$or": [{operator: "1"}]}]})) for operator in OPERATORS],
    *[Bad(call("find", "notes", {"$sort": {"x": {operator: "1"}}})) for operator in OPERATORS],
    *[Bad(call("find", "notes", {"$sort": {operator: 1}})) for operator in OPERATORS],
    *[Bad(call("find", "notes", {"$select": [operator]})) for operator in OPERATORS],
    *[Bad(call("find", "notes", {"$select": [{operator: "1"}]})) for operator in OPERATORS],
    *[Bad(call("find", "notes", {"x": {"$gt": {operator: "1"}}})) for operator in OPERATORS],
    *[Bad(call("find", "notes", {"x": {"y": {operator: "1"}}})) for operator in OPERATORS],
    *[Bad(call("remove", "notes", None, {"x": {operator: "1"}})) for operator in OPERATORS],
    # Update operators in data.
    *[Bad(call("patch", "notes", "ID", {operator: {"x": 1}}, {})) for operator in UPDATES],
    *[Bad(call("patch", "notes", None, {operator: {"x": 1}}, {})) for operator in UPDATES],
    *[Bad(call("update", "notes", "ID", {operator: {"x": 1}}, {})) for operator in UPDATES],
    *[Bad(call("create", "notes", {"x": {operator: 1}}, {})) for operator in UPDATES],
    # Keys.
    *[Bad(call("create", "notes", {key: 1}, {})) for key in KEYS],
    *[Bad(call("create", "notes", {"x": [{"y": {key: 1}}]}, {})) for key in KEYS],
    *[Bad(call("patch", "notes", "ID", {key: 1}, {})) for key in KEYS],
    *[Bad(call("find", "notes", {"x": {"y": {key: 1}}})) for key in KEYS if not key.startswith("k")],
    *[Bad(call("find", "notes", {key: 1})) for key in KEYS if key != "a.b"],
    *[Bad(call("find", "notes", {"$select": [key]})) for key in KEYS if key not in ("a.b", "$where", "$")],
    *[Bad(call("find", "notes", {"$sort": {key: 1}})) for key in KEYS if key not in ("a.b", "$where", "$")],
    Bad(call("create", "notes", {f"k{n}": 1 for n in range(10_001)}, {})),
    Bad(call("create", "notes", {"x": [0] * 10_001}, {})),
    Bad('["create","notes",{"%s":1},{}]' % ("k" * 900_000)),
    # Depth.
    *[
        Bad(f'["create","notes",{nested(depth)},{{}}]', may_close=depth > 500)
        for depth in any_of(33, 100, 1000, 50_000)
    ],
    *[
        Bad(f'["create","notes",{{"x":{nested(depth, "1", "[", "]")}}},{{}}]', may_close=depth > 500)
        for depth in (33, 5000)
    ],
    *[Bad(f'["find","notes",{nested(depth)}]', may_close=depth > 500) for depth in any_of(33, 1000)],
    *[Bad(f'["get","notes",{nested(depth)},{{}}]', may_close=depth > 500) for depth in any_of(33, 300, 1000, 50_000)],
    *[
        Bad(f'["find","notes",{nested(depth, "{}", chr(123) + chr(34) + "$or" + chr(34) + ":[", "]}")}]')
        for depth in (20, 100)
    ],
    *[Bad(f'["find",{nested(depth)},{{}}]', 404, may_close=depth > 500) for depth in any_of(33, 1000)],
    # Numbers.
    *[Bad(f'["create","notes",{{"n":{number}}},{{}}]', may_close=True) for number in NUMBERS],
    *[Bad(f'["find","notes",{{"n":{{"$gt":{number}}}}}]', may_close=True) for number in NUMBERS],
    *[Bad(f'["get","notes",{number},{{}}]', may_close=True) for number in NUMBERS],
    *[Bad(f'["get","notes",{number},{{}}]', (400, 404), may_close=True) for number in HUGE],
    # Limits of queries.
    *[Bad(call("find", "notes", {"$skip": skip})) for skip in any_of(-1, 10_001, 1e9, "-5", "99999999999")],
    *[
        Bad(call("find", "notes", {"$sort": sort}))
        for sort in any_of([], "x", 5, None, {"x": 0}, {"x": 2}, {"x": None}, {"x": []})
    ],
    Bad(call("find", "notes", {"$sort": {f"f{n}": 1 for n in range(9)}})),
    *[Bad(call("find", "notes", {"$select": select})) for select in any_of({}, 5, [5], [None], [["x"]], ["x"] * 101)],
    *[
        Bad(call("find", "notes", {key: value}))
        for key in any_of("$or", "$and")
        for value in any_of([], {}, "x", None, [5], [[]])
    ],
    Bad(call("find", "notes", {"$or": [{"x": n} for n in range(21)]})),
    Bad(call("find", "notes", {"x": {"$in": [*range(501)]}})),
    *[
        Bad(call("find", "notes", {"x": {operator: value}}))
        for operator in ("$in", "$nin")
        for value in any_of("x", 5, {}, None)
    ],
    Bad(call("find", "notes", {"x": "y" * 17_000})),
    Bad(call("find", "notes", {"x": {"$gt": 1, "y": 2}})),
    *[Bad(call("create", "notes", {}, {"$select": select})) for select in any_of(5, {}, [5], ["$where"], ["app_id"])],
    *[Bad(call("patch", "notes", None, {"x": 1}, {"$select": select})) for select in any_of(5, ["$x"])],
    # Data that is none.
    *[Bad(call("create", "notes", data, {})) for data in any_of(None, 5, "x", True, [5], [None], [[]], [{}, 5])],
    *[Bad(call("patch", "notes", "ID", data, {})) for data in any_of(None, 5, "x", True, [], [{}])],
    *[Bad(call("update", "notes", "ID", data, {})) for data in any_of(None, 5, "x", True, [], [{}])],
    *[Bad(call("find", "notes", query)) for query in any_of(5, "x", True, [], [{}], 1.5)],
    # Users: what only the server writes, and what nobody asks by.
    *[
        Bad(call("create", "users", {"username": "mallory", "password": "secret-123", key: value}, {}))
        for key, value in {
            "username_key": "ada",
            "roles": ["admin"],
            "permissions": ["*"],
            "is_system": True,
            "verified": True,
            "_id": "chosen",
            "app_id": NORTH,
        }.items()
    ],
    *[
        Bad(call("create", "users", data, {}))
        for data in any_of(
            {},
            {"username": "mallory"},
            {"password": "secret-123"},
            {"username": "", "password": "secret-123"},
            {"username": " ", "password": "secret-123"},
            {"username": 5, "password": "secret-123"},
            {"username": ["a"], "password": "secret-123"},
            {"username": {"x": "a"}, "password": "secret-123"},
            {"username": None, "password": "secret-123"},
            {"username": "m" * 129, "password": "secret-123"},
            {"username": "mal\0lory", "password": "secret-123"},
            {"username": "mallory", "password": ""},
            {"username": "mallory", "password": "short"},
            {"username": "mallory", "password": None},
            {"username": "mallory", "password": 12345678},
            {"username": "mallory", "password": ["secret-123"]},
            {"username": "mallory", "password": {"x": 1}},
            {"username": "mallory", "password": "p" * 100_000},
        )
    ],
    *[
        Bad(call("find", "users", query))
        for query in any_of(
            {"password": {"$gt": ""}},
            {"password": {"$ne": None}},
            {"username_key": "ada"},
            {"$or": [{"password": {"$gt": "$argon2id$a"}}]},
            {"$and": [{"$or": [{"username_key": {"$gt": ""}}]}]},
            {"$sort": {"password": 1}},
            {"$sort": {"username_key": 1}},
            {"$select": ["password"]},
            {"$select": ["username", "password.x"]},
            {"password.0": "x"},
        )
    ],
    *[
        Bad(call("patch", "users", "ID", {key: 1}, {}))
        for key in any_of("roles", "username_key", "verified", "password.x")
    ],
    # Packets that are no calls.
    Bad("[]", 404, may_close=True),
    Bad("[5]", 404, may_close=True),
    Bad("[null]", 404, may_close=True),
    Bad('[{"a":1},"notes"]', 404, may_close=True),
    Bad('["find"]', 404),
    Bad('["find",null]', 404),
    Bad('["find",{}]', 404),
    Bad('["\\u0000","notes",{}]', 405),
    Bad('["find","notes\\u0000",{}]', 404),
    Bad('["__proto__","notes",{}]', 405),
    Bad('["constructor","notes",{}]', 405),
    Bad('["find","constructor",{}]', 404),
    Bad('["find","__proto__",{}]', 404),
    Bad('["%s","notes",{}]' % ("e" * 900_000), 405),
    Bad('["find","%s",{}]' % ("/" * 900_000), 404),
    Bad('["create","notes",{"x":"\\ud800"},{}]', may_close=True),
    Bad('["create","notes",{"\\udc00":1},{}]', may_close=True),
    Bad('["find","notes",{"x":"\\ud800"}]', may_close=True),
    Bad('["get","notes","\\ud800",{}]', may_close=True),
    Bad('["find","\\ud800",{}]', (400, 404), may_close=True),
    Bad('["create","users",{"username":"\\ud800","password":"secret-123"},{}]', may_close=True),
    Bad('["find","notes",' + ",".join(["{}"] * 50) + "]"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def before(alike: Roost, north: Side) -> AsyncIterator[dict[str, list[Any]]]:
    """What the north has stored before any row, and still must have after the last."""
    for service in ("notes", "codes", "messages"):
        await north.socket.call("create", service, {"text": "kept", "x": 1}, {})
    await north.socket.take_events()
    found = await stored(alike, NORTH)
    yield found
    assert await stored(alike, NORTH) == found


async def test_there_are_many_rows() -> None:
    assert len(ROWS) > 500
    assert len({row.text for row in ROWS}) == len(ROWS)


async def test_bad_packets_are_answered_and_nothing_is_stored(
    alike: Roost, north: Side, before: dict[str, list[Any]]
) -> None:
    own_id = str(before["notes"][0]["_id"]["i"])
    wrong: list[tuple[str, Any]] = []
    rows = iter(ROWS)
    row: Bad | None = next(rows)
    while row is not None:
        async with wire(alike, "appId=north", headers={"Authorization": north.token}) as (socket, packet):
            assert packet.startswith("40")
            while row is not None:
                answer = await socket.ack(row.text.replace('"ID"', f'"{own_id}"'))
                if not _is_right(row, answer):
                    wrong.append((str(row), answer))
                row = next(rows, None)
                if answer is None:
                    break
    assert wrong == []
    assert await stored(alike, NORTH) == before
    await north.socket.quiet()


def _is_right(row: Bad, answer: list[Any] | None) -> bool:
    if answer is None:
        return row.may_close
    match answer:
        case [{"code": int() as code, "message": str() as message, "name": str(), "className": str()}]:
            codes = row.code if isinstance(row.code, tuple) else (row.code,)
            return code in codes and len(message) > 5 and len(message) < 1000
    return False


HARMLESS = [
    ("find", "notes", {"$limit": -1}),
    ("find", "notes", {"$limit": "abc"}),
    ("find", "notes", {"$limit": {}}),
    ("find", "notes", {"$limit": None}),
    ("find", "notes", {"$limit": True}),
    ("find", "notes", {"$limit": 1e9}),
    ("find", "notes", {"$limit": "10abc"}),
    ("find", "notes", {"$limit": 5.9}),
    ("find", "notes", {"$skip": "0"}),
    ("find", "notes", {"$skip": None}),
    ("find", "notes", {"n": -0.0}),
    ("find", "notes", {"n": 2**53 + 1}),
    ("find", "notes", {"n": 2**63 - 1}),
    ("find", "notes", {"a.b": 1}),
    ("find", "notes", {"x": {"y": {"z": 1}}}),
    ("find", "notes", {"x": {"$in": []}}),
    ("find", "notes", {"x": {"$in": [*range(500)]}}),
    ("find", "notes", {"$select": []}),
    ("find", "notes", {"_id": {"$ne": "x"}}),
    ("find", "notes", {"_id": {"$gt": ""}}),
]


@pytest.mark.parametrize("arguments", HARMLESS, ids=repr)
async def test_what_is_odd_but_harmless_is_carried_out(north: Side, arguments: tuple[Any, ...]) -> None:
    found = await outcome(north.socket, *arguments)
    if isinstance(found, CallError):
        assert arguments[2] == {"_id": {"$gt": ""}}
        assert found.code == 400
    else:
        assert isinstance(found, list)


@pytest.mark.parametrize(
    ("limit", "used"),
    [
        (-1, 10),
        (0, 0),
        (1e9, 50),
        ("10", 10),
        ({}, 10),
        ("abc", 10),
        (None, 10),
        ("5x", 5),
        (7.9, 7),
        (True, 10),
        ([], 10),
    ],
)
async def test_limits_of_pages_are_read_as_feathers_does(north: Side, limit: Any, used: int) -> None:
    page = await north.socket.call("find", "messages", {"$limit": limit})
    assert page["limit"] == used


async def test_packets_beyond_the_bound_end_the_socket_and_no_more(
    alike: Roost, north: Side, before: dict[str, list[Any]]
) -> None:
    async with wire(alike, "appId=north") as (socket, _):
        assert await socket.ack('["create","notes",{"x":"%s"},{}]' % ("y" * 1_000_001)) is None
    assert await stored(alike, NORTH) == before
    assert await north.socket.call("find", "notes", {"$limit": 1})


async def test_frames_that_are_no_packets_harm_nobody_else(
    alike: Roost, north: Side, before: dict[str, list[Any]]
) -> None:
    frames = [
        "",
        "4",
        "9",
        "x",
        "42",
        "42[",
        '42"x"',
        "42{}",
        "42null",
        "421",
        "421{",
        "42[1",
        "4299999999999999999999999999[]",
        "42-1[]",
        '42/other,["find","notes",{}]',
        "40/other,",
        "40",
        "43",
        "431[]",
        "44",
        "44{}",
        "4511111111111[]",
        '4510-["find",{"_placeholder":true,"num":0}]',
        '451-["find","notes",{"_placeholder":true,"num":-1}]',
        '451-["find","notes",{"_placeholder":true,"num":1000000000}]',
        '451-["find","notes",{"_placeholder":true,"num":"x"}]',
        '450-["find","notes",{"_placeholder":true,"num":0}]',
        "46",
        "47",
        "5",
        "6",
        "bAAAA",
        "b====",
        "1",
        "3probe",
        "2probe",
        "\ufeff42[]",
        '42["connect"]',
        '42["disconnect","x"]',
    ]
    for frame, kind in itertools.product(frames, ("text", "bytes")):
        async with wire(alike, "appId=north", headers={"Authorization": north.token}) as (socket, packet):
            assert packet.startswith("40")
            if kind == "text":
                await socket.socket.send_str(frame)
            else:
                await socket.socket.send_bytes(frame.encode())
            answer = await socket.ack('["find","no-such-service"]')
            assert answer is None or answer[0]["code"] == 404, frame
    assert await stored(alike, NORTH) == before
    await north.socket.quiet()


async def test_bad_bodies_over_http_store_nothing(alike: Roost, north: Side, before: dict[str, list[Any]]) -> None:
    async with rest(alike, NORTH, Authorization=north.token) as client:
        for row in ROWS:
            try:
                method, path, *arguments = json.loads(row.text)
            except (ValueError, RecursionError):
                continue
            if method not in ("create", "patch", "update") or not isinstance(path, str) or len(row.text) > 100_000:
                continue
            if method == "create":
                verb, target, data = "POST", f"/{path}", arguments[0]
            else:
                verb, target, data = "PATCH" if method == "patch" else "PUT", f"/{path}", arguments[1]
                if isinstance(arguments[0], str) and arguments[0]:
                    target += f"/{arguments[0]}"
                else:
                    continue
            if method == "create" and arguments[1:] and arguments[1]:
                continue
            reply = await client.request(verb, target, raw=json.dumps(data).encode())
            assert reply.status in (400, 404), row
            assert reply.json["message"]
    assert await stored(alike, NORTH) == before
