"""LIMITS P10: mutated frames at the whole server: a connection may die of them, the process does not, and says little.

`-m load` fuzzes for a minute, with `ROOST_LOAD=full` for five.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.integration.server.command import environment, serving
from tests.load.size import FULL
from tests.support.client import connect
from tests.support.raw_socket import BINARY, PATH, PING, PONG, TEXT, Closed, RawSocket, Rejected, event, frame
from tests.support.roost import TWO_APPS

AT_ONCE = 10
"""Frames that are sent before the server's answer is awaited."""
CALLS: list[list[Any]] = [
    ["find", "notes", {"$limit": 1, "$sort": {"n": -1}, "$or": [{"n": 1}, {"n": {"$gt": 2}}]}],
    ["get", "notes", "6b0770299d1f2f3641d0f5fa", {}],
    ["create", "messages", {"text": "x", "n": 1.5}, {"$select": ["text"]}],
    ["create", "notes", [{"text": "x"}, {"a": {"b": [1, 2, {"c": None}]}}], {}],
    ["patch", "notes", "x", {"$set": {"a": [1, {"b": None}]}}, {}],
    ["update", "notes", "x", {"text": "y"}, {}],
    ["remove", "notes", "x", {"query": {}}],
    ["create", "authentication", {"strategy": "local", "username": "ada"}, {}],
    ["create", "authentication", {"strategy": "jwt", "accessToken": "a.b.c"}, {}],
    ["create", "users", {"username": "\N{SNOWMAN}", "password": 7}, {}],
    ["create", "accounts", {"action": "reset", "token": "x", "password": "y"}, {}],
    ["find", "sessions", {}],
    ["join", "rooms", "x"],
]
VALUES: list[Any] = [
    None, True, 0, -1, 2**63, 10**40, 1e308, 0.1, "", "\0", "\ud800", "x" * 300, "__proto__", "$where", "$ne", "a.b", [], {},
    [[[[]]]], {"$gt": ""}, {"$ne": None}, {"$in": [1]}, {"_placeholder": True, "num": 0}, {"a.b": 1}, {"__class__": {}},
    "find", "notes", "6b0770299d1f2f3641d0f5fa",
]  # fmt: skip
SEEDS: list[str] = [
    *(event(*call, ack=number) for number, call in enumerate(CALLS)),
    "2", "3", "3probe", "5", "6", "1", "40", "40/x,", "41", "41/x,", "431[1]", "44{}", "42[]", '42["connect"]',
    '451-0["find",{"_placeholder":true,"num":0}]', '461-7[{"_placeholder":true,"num":-1}]',
    "42" + "[" * 500 + "]" * 500, '427["find","notes",{"a":1e400}]', '42["find","notes",{"\\ud800":"\\u0000"}]',
]  # fmt: skip
PIECES: list[bytes] = [
    piece.encode()
    for piece in (
        '[ ] { } " , : \\ null true -1 1e999 99999999999999999999 0.1 NaN "__proto__" "$where" "$ne" "a.b" "" "\\u0000" '
        '"\\ud800" {"_placeholder":true,"num":0} 4 42 45 451- 40 / /x, \x1e'
    ).split(" ")
]


def changed(value: Any, chance: random.Random) -> Any:
    """The value with one part of it replaced, doubled, or put one deeper."""
    if chance.random() < 0.3 or not isinstance(value, (dict, list)) or not value:
        return chance.choice((chance.choice(VALUES), [value], {"x": value}, [value, value]))
    if isinstance(value, list):
        at = chance.randrange(len(value))
        return [*value[:at], changed(value[at], chance), *value[at + 1 :]]
    key = chance.choice([*value])
    if chance.random() < 0.3:
        return {**value, chance.choice(("$or", "$where", "__proto__", "a.b", "", "x", "app_id", "_id")): value[key]}
    return {**value, key: changed(value[key], chance)}


def mutated(chance: random.Random) -> bytes:
    """A frame of bytes that were once good."""
    data = bytearray(chance.choice(SEEDS).encode())
    for _ in range(chance.choice((1, 1, 2, 3, 8))):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(6):
            case 0 if data:
                data[at - 1] ^= 1 << chance.randrange(8)
            case 1:
                del data[at : at + chance.randrange(1, 9)]
            case 2:
                data[at:at] = chance.choice(PIECES)
            case 3:
                data[at:at] = chance.choice(SEEDS).encode()[: chance.randrange(1, 60)]
            case 4:
                data[at:at] = data[:at][-chance.randrange(1, 40) :] * chance.randrange(1, 4)
            case _:
                data[at : at + 1] = bytes([chance.randrange(256)])
    if chance.random() < 0.1:
        # The frame itself: its kind, its length, its mask.
        whole = bytearray(frame(bytes(data[:100]), chance.choice((TEXT, BINARY, 0, 8, 9, 10, 3, 15))))
        whole[chance.randrange(min(len(whole), 6))] ^= 1 << chance.randrange(8)
        return bytes(whole)
    return frame(bytes(data), BINARY if chance.random() < 0.1 else TEXT)


def frame_of(chance: random.Random) -> bytes:
    """A frame: mostly a call that is odd, and sometimes what is no call, no packet, or no frame."""
    if chance.random() < 0.15:
        return mutated(chance)
    call: Any = chance.choice(CALLS)
    for _ in range(chance.randint(1, 3)):
        rest = changed(call[1:], chance)
        call = [call[0], *(rest if isinstance(rest, list) else [rest])]
    if chance.random() < 0.05:
        call = changed(call, chance)
    return frame(f"42{chance.randrange(100)}{json.dumps(call)}")


async def attack(port: int, chance: random.Random, frames: int, until: float) -> tuple[int, int]:
    """Sends frames over as many connections as that takes; how many were taken for sure, and how many connections died."""
    taken = dead = 0
    while taken < frames and time.monotonic() < until:
        with suppress(ConnectionError, Rejected, asyncio.IncompleteReadError):
            async with await RawSocket.open(port, f"{PATH}&appId=acme") as raw:
                raw.send("40")
                while taken < frames and time.monotonic() < until:
                    raw.send_raw(b"".join(frame_of(chance) for _ in range(AT_ONCE)) + frame(b"fence", PING))
                    try:
                        while await raw.receive_frame(30) != (PONG, b"fence"):
                            pass
                    except Closed:
                        # One of them was the last; those behind it were not looked at.
                        taken, dead = taken + 1, dead + 1
                        break
                    taken += AT_ONCE
    return taken, dead


@pytest.mark.parametrize(
    ("frames", "seconds"),
    [
        (10_000, 60),
        pytest.param(1_000_000, 300 if FULL else 60, marks=[pytest.mark.load, pytest.mark.timeout(500)]),
    ],
)
async def test_p10_no_frame_brings_the_server_down(mongod: str, tmp_path: Path, frames: int, seconds: int) -> None:
    """P10: mutated frames, 0 unhandled exceptions; the process answers others, and keeps nothing of them."""
    file = tmp_path / "apps.yaml"
    file.write_text(TWO_APPS)
    env = environment(mongod, f"t{secrets.token_hex(6)}", ROOST_DATA=str(tmp_path))
    chance = random.Random(4711)
    async with serving("--apply", file, env=env) as server:
        process = psutil.Process(server.process.pid)
        port = int(server.url.rsplit(":", 1)[1])
        await attack(port, chance, 5_000, time.monotonic() + 10)
        before, began = process.memory_info().rss, time.monotonic()
        outcomes = await asyncio.gather(
            *(attack(port, random.Random(n), frames // 4, began + seconds) for n in range(4))
        )
        sent, dead = (sum(column) for column in zip(*outcomes, strict=True))
        took = time.monotonic() - began
        grown = (process.memory_info().rss - before) / 2**20
        async with connect(server, "acme") as client:
            made = await client.call("create", "notes", {"text": "still here"}, {})
            assert (await client.call("get", "notes", made["_id"], {}))["text"] == "still here"
        assert await server.stop() == 0
    log = "".join([*server.err, *server.out])
    lines = log.splitlines()
    print(f"P10: {sent} frames in {took:.0f} s, {dead} connections died, {len(lines)} lines of log, {grown:+.0f} MB")  # noqa: T201
    assert sent > min(frames, 10_000) // 2
    for word in ("Traceback", "exception", "unhandled", "never retrieved", "call failed", "handshake failed"):
        assert [line for line in lines if word in line] == []
    assert not [line for line in lines if line.startswith("{") and json.loads(line).get("level") == "error"]
    assert len(lines) <= 2 * took + 60, "a line a second for each kind of what is odd"
    assert grown <= 50
