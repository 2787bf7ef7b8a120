"""`tail` shows one app's calls and events on all servers, with hook timings and without values."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from server.main import Roost
from server.telemetry import tail
from server.telemetry.tail import masked
from tests.integration.server.command import ROOT, environment
from tests.support.client import connect, outcome, until

CANARY = "canary-that-is-nobodys-business"


class Watch:
    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def calls(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["kind"] == "call"]


@asynccontextmanager
async def watching(roost: Roost, app_id: str) -> AsyncIterator[Watch]:
    """The command in a process of its own, once the server has heard of it."""
    assert roost.settings.mongodb_uri is not None
    env = environment(roost.settings.mongodb_uri.get_secret_value(), roost.settings.database)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "server", "tail", app_id, "--json",
        cwd=ROOT, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    watch = Watch()

    async def read() -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            watch.lines.append(json.loads(line))

    reading = asyncio.create_task(read())
    try:
        await until(lambda: app_id in roost.telemetry.tail.watched, 20)
        yield watch
    finally:
        process.terminate()
        await process.wait()
        await reading


async def test_calls_and_events_are_shown_without_values(roost: Roost) -> None:
    async with connect(roost, "acme") as ada, connect(roost, "globex") as eve, watching(roost, "acme") as watch:
        await eve.call("create", "notes", {"text": CANARY}, {})
        user = await ada.sign_up("ada")
        await ada.call("create", "notes", {"text": CANARY, "tags": [1, 2]}, {"$select": ["text"]})
        await outcome(ada, "get", "notes", CANARY, {})
        await until(lambda: len(watch.calls()) >= 4 and any(line["kind"] == "event" for line in watch.lines))
        assert CANARY not in json.dumps(watch.lines)
        assert {(call["method"], call["path"]) for call in watch.calls()} == {
            ("create", "users"),
            ("create", "authentication"),
            ("create", "notes"),
            ("get", "notes"),
        }
        made = next(call for call in watch.calls() if (call["method"], call["path"]) == ("create", "notes"))
        assert made["data"]["text"] == f"<text {len(CANARY)}>"
        assert made["user"] == user["_id"]
        assert made["transport"] == "socketio"
        timed = {name: ms for _, name, ms in made["hooks"]}
        assert {"enforce_app_id", "inject_app_id", "create"} <= timed.keys()
        assert timed["create"] <= made["ms"]
        assert "404" in next(call for call in watch.calls() if call["method"] == "get")["error"]
        event = next(line for line in watch.lines if line["kind"] == "event" and line["name"] == "notes created")
        assert event["sockets"] == 1
    await until(lambda: "acme" not in roost.telemetry.tail.watched, 20)


async def test_what_is_too_much_is_counted(roost: Roost) -> None:
    async with connect(roost, "acme") as ada, watching(roost, "acme") as watch:
        for _ in range(4):
            await asyncio.gather(*(ada.call("find", "notes", {}) for _ in range(100)))
        await until(lambda: any(line["kind"] == "gap" for line in watch.lines) or len(watch.calls()) == 400)
        counts: dict[str, int] = {}
        for call in watch.calls():
            counts[call["at"][:19]] = counts.get(call["at"][:19], 0) + 1
        assert max(counts.values()) <= 2 * tail.MOST


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(_values)
def test_a_masked_value_holds_no_values(value: Any) -> None:
    """OB-1: shapes alone: whatever is not a name of a field is a kind and a length."""
    text = json.dumps(masked({"field": [CANARY, value, {"deep": CANARY}]}))
    assert CANARY not in text
    assert len(text) < 20_000
