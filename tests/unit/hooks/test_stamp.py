"""Stamps: what the server fills in, whatever a client sends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hooks.context import HookContext, Params
from hooks.errors import Forbidden, NotAuthenticated
from hooks.stamp import check_stamp, stamp
from hooks.tenant import Tenant
from services.memory import MemoryStore


class Nobody:
    """An application that is not asked."""

    async def call(self, *args: Any, **kwargs: Any) -> HookContext:
        raise AssertionError("no call is expected")

    async def authenticate(self, params: Params) -> None:
        raise AssertionError("no login is expected")


def a_context(data: Any, user: dict[str, Any] | None, provider: str | None = "rest") -> HookContext:
    params = Params(tenant=Tenant("acme", "Acme"), provider=provider, user=user, authenticated=user is not None)
    return HookContext(app=Nobody(), service=MemoryStore(), path="notes", method="create", params=params, data=data)


def test_stamps_override_what_is_sent() -> None:
    fill = stamp({"owner": "$user._id", "kind": "note", "level": 1})
    context = a_context([{"owner": "eve", "text": "x"}, {}], {"_id": "u1"})
    fill(context)
    assert context.data == [
        {"owner": "u1", "text": "x", "kind": "note", "level": 1},
        {"owner": "u1", "kind": "note", "level": 1},
    ]


def test_the_moment_is_a_text() -> None:
    context = a_context({"at": "1970"}, None)
    stamp({"at": "$now"})(context)
    assert abs(datetime.now(UTC) - datetime.fromisoformat(context.data["at"])) < timedelta(seconds=5)
    assert context.data["at"].endswith("Z")


def test_who_has_no_such_value_is_refused() -> None:
    fill = stamp({"owner": "$user._id", "org": "$user.org"})
    with pytest.raises(NotAuthenticated):
        fill(a_context({}, None))
    with pytest.raises(Forbidden, match="'org'"):
        fill(a_context({}, {"_id": "u1"}))
    with pytest.raises(Forbidden, match="'org'"):
        fill(a_context({}, {"_id": "u1", "org": {"$ne": 1}}))


def test_the_server_itself_is_trusted() -> None:
    context = a_context({"owner": "u2"}, None, provider=None)
    stamp({"owner": "$user._id"})(context)
    assert context.data == {"owner": "u2"}


@pytest.mark.parametrize("data", [None, "x", 5])
def test_what_is_no_record_is_left_to_the_service(data: Any) -> None:
    context = a_context(data, {"_id": "u1"})
    stamp({"owner": "$user._id"})(context)
    assert context.data == data


@pytest.mark.parametrize("value", ["$users.x", "$user.", "$ne", {"a": 1}, [1]])
def test_what_is_no_stamp(value: Any) -> None:
    with pytest.raises(ValueError, match="is "):
        check_stamp(value)


@pytest.mark.parametrize("value", ["$user.a.b", "$now", "text", "", 1, 1.5, True, None])
def test_what_is_a_stamp(value: Any) -> None:
    check_stamp(value)
