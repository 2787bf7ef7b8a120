"""Log lines (TENANCY OB-1): each with its tenant, call and user, and without anything a client sent."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
import structlog

from hooks.context import HookContext
from server import logs
from server.main import Roost
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
