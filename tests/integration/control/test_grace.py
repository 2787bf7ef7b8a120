"""The step `sockets` goes on when every node has said that the app is out of service there (TENANCY CP-25, CP-20)."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from server import rest as rest_module
from server.main import Roost
from services.control.operations import SUCCEEDED
from services.tasks import end
from tests.integration.control.managers import control_collection, declared, state
from tests.integration.server.command import environment, serving
from tests.support.client import PASSWORD, connect
from tests.support.placed import database_of

AT_ONCE = 2.0
"""Seconds, well below the 5 that everybody was waited for: one node needs some hundredths."""


async def test_one_node_is_not_waited_for(roost: Roost) -> None:
    """CP-25: suspending and deleting take no longer than the node needs, and its sockets are closed by then."""
    lifecycle = roost.backend.control.lifecycle
    async with connect(roost, "acme") as client:
        began = time.monotonic()
        suspended = await lifecycle.settle((await lifecycle.suspend("acme")).id)
        assert suspended.state == SUCCEEDED
        assert time.monotonic() - began < AT_ONCE
        assert not roost.connections.has("acme")
        await client.gone()
    began = time.monotonic()
    deleted = await lifecycle.settle((await lifecycle.delete("acme")).id)
    assert deleted.state == SUCCEEDED
    sockets = next(step for step in deleted.steps if step["name"] == "sockets")
    assert (sockets["ended_at"] - sockets["started_at"]).total_seconds() < AT_ONCE
    assert await state(roost, "acme") is None


async def test_an_app_that_no_node_knows_is_acknowledged_as_well(roost: Roost) -> None:
    """CP-25: nobody has asked for it since it was made, and it is in no node's memory."""
    lifecycle = roost.backend.control.lifecycle
    made = await lifecycle.create(declared("initech"))
    assert made.state == SUCCEEDED
    began = time.monotonic()
    assert (await lifecycle.settle((await lifecycle.suspend("initech")).id)).state == SUCCEEDED
    assert time.monotonic() - began < AT_ONCE


async def test_a_call_that_runs_is_waited_for(roost: Roost) -> None:
    """CP-25: what has begun in the app is over before anything of it is deleted."""
    lifecycle = roost.backend.control.lifecycle
    entered, may_go_on = asyncio.Event(), asyncio.Event()
    order: list[str] = []

    async def slow(context: object) -> None:
        entered.set()
        await may_go_on.wait()
        order.append("call")

    roost.app.service("users").add_hooks({"before": {"create": [slow]}})
    async with connect(roost, "acme") as client:
        call = asyncio.create_task(client.call("create", "users", {"username": "ada", "password": PASSWORD}))
        await entered.wait()
        operation = await lifecycle.suspend("acme")
        await client.gone()
        assert (await lifecycle.settle(operation.id, patience=0.3)).is_active
        may_go_on.set()
        assert (await lifecycle.settle(operation.id)).state == SUCCEEDED
        assert order == ["call"]
        await end(call)


async def test_a_request_that_was_let_in_before_is_refused_after(roost: Roost, monkeypatch: pytest.MonkeyPatch) -> None:
    """CP-20, CP-25: its body came slowly, and meanwhile the app was closed: nothing is written any more."""
    lifecycle = roost.backend.control.lifecycle
    let_in, may_go_on = asyncio.Event(), asyncio.Event()
    read = rest_module._body

    async def watched(request: web.Request) -> Any:
        let_in.set()
        return await read(request)

    monkeypatch.setattr(rest_module, "_body", watched)

    async def slowly() -> AsyncIterator[bytes]:
        yield b'{"text": '
        await may_go_on.wait()
        yield b'"late"}'

    headers = {"x-app-id": "acme", "Content-Type": "application/json"}
    async with aiohttp.ClientSession() as session:
        asked = asyncio.create_task(session.post(f"{roost.url}/notes", data=slowly(), headers=headers))
        await let_in.wait()
        assert (await lifecycle.settle((await lifecycle.suspend("acme")).id)).state == SUCCEEDED
        may_go_on.set()
        async with await asked as answer:
            assert answer.status == 403
            assert (await answer.json())["data"]["state"] == "suspended"
    notes = database_of(roost)["notes"]
    assert await notes.count_documents({"app_id": "acme"}) == 0


@pytest.mark.timeout(90)
async def test_a_node_that_is_silent_is_waited_for_five_seconds(roost: Roost, mongod: str, tmp_path: Path) -> None:
    """CP-25: two processes, one of them stopped by SIGSTOP: the step ends by the bound, and at once when both answer."""
    lifecycle = roost.backend.control.lifecycle
    env = environment(mongod, roost.settings.database)
    async with serving("--data", str(tmp_path), env=env) as other:
        assert await control_collection(roost, "nodes").count_documents({}) == 2
        async with connect(other, "acme") as client:
            began = time.monotonic()
            assert (await lifecycle.settle((await lifecycle.suspend("acme")).id)).state == SUCCEEDED
            assert time.monotonic() - began < AT_ONCE
            await client.gone()
        os.kill(other.process.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            operation = await lifecycle.suspend("globex")
            over = await lifecycle.settle(operation.id)
            took = time.monotonic() - began
        finally:
            os.kill(other.process.pid, signal.SIGCONT)
        assert over.state == SUCCEEDED
        assert 4.5 < took < 9.0
