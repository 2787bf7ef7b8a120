"""The official client from npm, unmodified, over each transport."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.echo_server import echo_server

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "tests" / "support" / "engine_client.mjs"
MODULES = ROOT / "client-example"


@pytest.mark.skipif(
    shutil.which("node") is None or not (MODULES / "node_modules" / "socket.io-client").is_dir(),
    reason="needs node, and `npm ci` in client-example",
)
async def test_the_official_client() -> None:
    async with echo_server() as server:
        node = await asyncio.create_subprocess_exec(
            "node", str(SCRIPT), str(MODULES), str(server.port), stdout=-1, stderr=-1
        )
        async with asyncio.timeout(40):
            output, faults = await node.communicate()
        assert node.returncode == 0, faults.decode()
        found: dict[str, Any] = json.loads(output)
    for transport in ("websocket", "polling", "upgrade"):
        assert found[transport] == {
            "early": True,
            "text": [None, "\u00e9 \U0001f600", {"a": [1, None]}],
            "long": 500_000,
            "answer": 2_000_000,
            "error": 500,
            "binary": "Binary values are not supported: send text, for example base64",
            "shout": [None, 1],
            "transport": "polling" if transport == "polling" else "websocket",
            "heard": [[{"n": 1}]],
            "reason": "transport close",
        }
    for way in ("refusedByPolling", "refusedByWebsocket"):
        assert found[way] == {"message": "No entry", "data": {"code": 403}, "active": False}
    assert found["namespace"] == "Invalid namespace"
