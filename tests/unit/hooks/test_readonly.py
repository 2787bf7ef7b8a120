from __future__ import annotations

from typing import Any

import pytest

from hooks.context import HookContext, Params
from hooks.errors import BadRequest
from hooks.readonly import refuse_readonly
from hooks.tenant import Tenant
from services.application import Application

refuse = refuse_readonly(["role", "score"])


def context(data: Any, method: str = "patch", provider: str | None = "socketio") -> HookContext:
    params = Params(tenant=Tenant("acme", "Acme"), provider=provider)
    return HookContext(app=Application(), service=None, path="people", method=method, params=params, data=data)


@pytest.mark.parametrize(
    "data",
    [
        {"role": "admin"}, {"a": 1, "role": None}, [{"a": 1}, {"role": "x"}], {"role.x": 1}, {"$set": {"role": 1}},
        {"$set": {"role.x": 1}}, {"$unset": {"role": 1}}, {"$inc": {"score": 1}}, {"$push": {"role": 1}},
    ],
)  # fmt: skip
def test_a_client_does_not_write_them(data: Any) -> None:
    for method in ("create", "update", "patch"):
        with pytest.raises(BadRequest, match=r"^'(role|score)' is set by the server"):
            refuse(context(data, method))


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"roles": 1, "a": {"role": 1}},
        {"$set": {"a.role": 1}},
        None,
        5,
        "role",
        [5],
        {"$set": 5},
        {"$set": ["role"]},
    ],
)
def test_all_else_passes(data: Any) -> None:
    refuse(context(data))


def test_the_server_itself_writes_them() -> None:
    refuse(context({"role": "admin"}, provider=None))
    refuse(context({"role": "admin"}, method="find"))
