"""A module as a deployer writes it: named in the setting `modules`, it adds services to every app."""

from __future__ import annotations

from typing import Any

from hooks.context import HookContext, Params, Record
from hooks.errors import Conflict, NotImplemented
from services.application import Application
from services.base import Service


class Desk(Service):
    """Answers who asks, and fails in all the ways in which a service can."""

    async def find(self, params: Params) -> list[Record]:
        return [{"route": dict(params.route)}]

    async def whoami(self, data: Any, params: Params) -> Record:
        """The caller as this call sees it."""
        return {"tenant": params.tenant.id, "user": params.user, "provider": params.provider, "data": data}

    async def fail(self, data: Any, params: Params) -> Record:
        """Raises what `data.kind` says."""
        errors: dict[str, Exception] = {
            "ours": Conflict("Somebody was faster", data={"by": 1}, errors=[{"path": "/a", "message": "is taken"}]),
            "nothing": NotImplemented(),
            "secret": RuntimeError("the canary sang in the coal mine"),
            "value": ValueError({"password": "the canary sang in the coal mine"}),
        }
        raise errors[data["kind"]]

    async def odd(self, data: Any, params: Params) -> Any:
        """Values that JSON has no word for."""
        return {"nan": float("nan"), "infinite": float("inf"), "tuple": (1, 2), "set": {1}}

    async def unspeakable(self, data: Any, params: Params) -> Any:
        return {"object": object()}

    async def kept_inside(self, data: Any, params: Params) -> Any:
        """Is not offered."""
        return "inside"


def configure(app: Application) -> None:
    """What Roost calls."""
    methods = ("find", "whoami", "fail", "odd", "unspeakable")
    app.use("desk", Desk(), methods=methods, rules="public", hooks={"after": {"odd": [mark]}})
    app.use("rooms/:room/desk", Desk(), methods=methods, rules="authenticated")


def mark(context: HookContext) -> None:
    """An after hook that wishes for a header and a status."""
    context.http = {"status": 202, "headers": {"X-Marked": "yes"}}
