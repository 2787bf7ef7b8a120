"""Log lines (TENANCY OB-1): each with its tenant, call and user, and without anything a client sent."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
import structlog

from hooks.context import HookContext
from server import logs
from server.main import Roost
from tests.integration.server.command import ROOT
from tests.support.client import connect, outcome, rest

CANARY = "canary-in-a-log"


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """What is logged, as the server's own processors make it."""
    found: list[dict[str, Any]] = []

    def keep(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        found.append(dict(event))
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[logs.add_call, structlog.processors.format_exc_info, keep])
    yield found
    structlog.configure(**before)


def fail(context: HookContext) -> None:
    if context.params.provider is not None:
        raise RuntimeError("something broke")


@pytest.mark.parametrize("transport", [connect, rest])
async def test_lines_of_a_call_name_tenant_call_and_user(
    roost: Roost, transport: Any, lines: list[dict[str, Any]]
) -> None:
    roost.app.service("users").add_hooks({"after": {"find": [fail]}})
    async with transport(roost, "acme") as ada:
        user = await ada.sign_up("ada")
        lines.clear()
        assert (await outcome(ada, "find", "users", {"username": CANARY})).code == 500
    (line,) = [line for line in lines if "failed" in line["event"]]
    assert (line["tenant"], line["user"]) == ("acme", user["_id"])
    assert line["call"]
    assert "something broke" in line["exception"]
    assert CANARY not in str(lines)


@pytest.mark.parametrize("format", ["console", "json"])
def test_nothing_that_is_logged_makes_lines_or_moves_the_cursor(format: str) -> None:
    """In a process of its own, since its loggers are changed."""
    program = f"""
import logging, structlog
from server import logs
logs.configure("info", {format!r})
evil = "a\\n2026-01-01 [error] forged\\x1b[2J\\x9b2J\\u2028b"
logging.getLogger("library").warning("refused %s", evil)
structlog.get_logger().warning("refused " + evil, user=evil, path=evil)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = done.stderr.split("\n")
    assert len(lines) == 3, done.stderr
    assert not any(part in done.stderr for part in ("\x1b[2J", "\x9b", "\u2028"))
