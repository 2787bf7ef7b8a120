"""The chapter on the control plane does what it says: its requests, calls and its plug-in run on a real server."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

from tests.conftest import StartRoost
from tests.integration.control.managers import log_in_as_admin
from tests.integration.server.test_guide import blocks
from tests.support.client import CallError, connect, outcome, rest
from tests.support.roost import ADMIN, CONTROL_PLANE


async def test_the_requests_and_calls_of_the_chapter(roosts: StartRoost) -> None:
    """CP-10, CP-14 to CP-16: in the chapter's order, each with the status that it tells."""
    roost = await roosts()
    lifecycle = roost.backend.control.lifecycle
    *first, last = blocks("control-plane", "http")
    calls = [json.loads(code) for code in blocks("control-plane", "call")]
    assert (len(first), len(calls)) == (3, 3)
    async with rest(roost, CONTROL_PLANE) as client, connect(roost, CONTROL_PLANE) as socket:
        answer = await log_in_as_admin(client)
        client.headers["Authorization"] = f"Bearer {answer['accessToken']}"
        await socket.login(*ADMIN)

        async def send(code: str) -> None:
            request, *rest_of = code.strip().splitlines()
            verb, path = request.split()
            body = json.loads(rest_of[0]) if len(rest_of) == 2 else None
            reply = await client.request(verb, path.replace("[", "%5B").replace("]", "%5D"), body)
            assert reply.status == int(rest_of[-1]), reply.json

        for code in first:
            await send(code)
        for call in calls:
            found = await socket.call(*call)
            if call[0] == "create":
                assert (await lifecycle.settle(found["_id"])).state == "succeeded"
            else:
                assert [one["kind"] for one in found["data"]] == ["resume", "suspend", "provision"]
        await send(last)


async def test_the_plugin_of_the_chapter(
    roosts: StartRoost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """CP-26: a veto, and word of what was made."""
    code, _ = blocks("control-plane", "python")
    (tmp_path / "names.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("names")
    try:
        roost = await roosts(modules=("names",))
        async with rest(roost, CONTROL_PLANE) as client:
            answer = await log_in_as_admin(client)
            client.headers["Authorization"] = f"Bearer {answer['accessToken']}"
            refused = await outcome(client, "create", "tenants", {"id": "initech", "friendly_name": "My test"})
            assert isinstance(refused, CallError)
            assert (refused.code, refused.message) == (403, "Apps for tests are made elsewhere")
            made = await client.call("create", "tenants", {"id": "initech", "friendly_name": "Initech"})
        assert f"{made['created_by']} has made initech" in capsys.readouterr().out
    finally:
        del sys.modules["names"]


async def test_the_composition_of_the_chapter(
    roosts: StartRoost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CO-1, CO-4: the one call, and what it does to an app and to a role."""
    _, code = blocks("control-plane", "python")
    (tmp_path / "composed.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("composed")
    try:
        roost = await roosts(modules=("composed",))
        async with rest(roost, CONTROL_PLANE) as client:
            answer = await log_in_as_admin(client)
            client.headers["Authorization"] = f"Bearer {answer['accessToken']}"
            app = {"id": "initech", "friendly_name": " Initech ", "plan": "gold"}
            assert (await client.call("create", "tenants", app))["friendly_name"] == "Initech"
            assert (await client.call("create", "roles", {"name": "clerk"}))["description"] == "Made by hand"
        initech = await roost.backend.tenants.get("initech")
        assert initech is not None
        assert initech.placement.model == "database"
    finally:
        del sys.modules["composed"]
