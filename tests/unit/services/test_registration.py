"""What of a service is offered, and to whom."""

from __future__ import annotations

from typing import Any

import pytest

from hooks.chain import Hooks
from hooks.context import HookContext, Params, Record
from hooks.errors import MethodNotAllowed, NotAuthenticated
from hooks.tenant import Tenant
from services.application import Application
from services.base import RESERVED_METHODS, Service

ACME = Tenant("acme", "Acme")


class Lamp(Service):
    async def find(self, params: Params) -> list[Record]:
        return []

    async def get(self, id: Any, params: Params) -> Record:
        return {"id": id}

    async def create(self, data: Any, params: Params) -> Record:
        return {"created": data}

    async def light(self, data: Any, params: Params) -> Record:
        return {"lit": data}

    async def emit(self, data: Any, params: Params) -> Record:
        return {}

    async def _hidden(self, data: Any, params: Params) -> Record:
        return {}


def register(**options: Any) -> Any:
    return Application().register("lamps", Lamp(), **options)


def test_the_standard_methods_that_exist_are_offered_by_default() -> None:
    assert register().methods == ("find", "get", "create")
    assert register(methods=("find", "light")).methods == ("find", "light")


@pytest.mark.parametrize("name", ["none", "_hidden", "emit", "update", "__init__", "", *sorted(RESERVED_METHODS)])
def test_what_cannot_be_a_method_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot offer"):
        register(methods=("find", name))


def test_hooks_for_methods_that_are_not_there_are_refused() -> None:
    register(hooks={"before": {"find": [lambda context: None]}})
    with pytest.raises(ValueError, match="update"):
        register(hooks={"before": {"update": [lambda context: None]}})


def test_events_are_the_standard_ones_and_the_own() -> None:
    assert register(events=("lit",)).events == ("created", "updated", "patched", "removed", "lit")


async def call(registration: Any, method: str, provider: str | None, *, logged_in: bool = False) -> Any:
    params = Params(tenant=ACME, provider=provider, authenticated=logged_in, user={"_id": 1} if logged_in else None)
    app = Application()
    context = HookContext(
        app=app, service=registration.service, path="lamps", method=method, params=params, id="1", data={}
    )
    await registration.chain(method)(context)
    return context.result


RULES: list[tuple[Any, str, Any, Any]] = [
    ("public", "find", None, None),
    ("authenticated", "find", NotAuthenticated, None),
    ("nobody", "find", MethodNotAllowed, MethodNotAllowed),
    ({}, "find", MethodNotAllowed, MethodNotAllowed),
    ({"find": "public"}, "find", None, None),
    ({"find": "public"}, "get", MethodNotAllowed, MethodNotAllowed),
    ({"default": "public", "get": "nobody"}, "get", MethodNotAllowed, MethodNotAllowed),
    ({"default": "public", "get": "nobody"}, "light", None, None),
    ({"default": "nobody", "light": "authenticated"}, "light", NotAuthenticated, None),
]


@pytest.mark.parametrize(("rules", "method", "stranger", "user"), RULES)
async def test_rules_hold_for_those_outside(rules: Any, method: str, stranger: Any, user: Any) -> None:
    registration = register(rules=rules, methods=("find", "get", "create", "light"))
    for logged_in, error in ((False, stranger), (True, user)):
        if error is None:
            assert await call(registration, method, "rest", logged_in=logged_in) is not None
        else:
            with pytest.raises(error):
                await call(registration, method, "rest", logged_in=logged_in)
    assert await call(registration, method, None) is not None


async def test_the_default_is_a_login() -> None:
    with pytest.raises(NotAuthenticated):
        await call(register(), "find", "socketio")


async def test_rules_come_before_the_services_own_hooks() -> None:
    ran: list[str] = []
    registration = register(rules="nobody", hooks={"before": {"all": [lambda context: ran.append("hook")]}})
    with pytest.raises(MethodNotAllowed):
        await call(registration, "find", "rest")
    assert ran == []


async def test_chains_are_compiled_once_and_anew_after_a_change() -> None:
    registration = register()
    assert registration.chain("find") is registration.chain("find")
    before = registration.chain("find")
    registration.recompile()
    assert registration.chain("find") is not before
    assert isinstance(registration.hooks, Hooks)


async def test_each_kind_of_method_gets_its_arguments() -> None:
    registration = register(methods=("find", "get", "create", "light"))
    assert await call(registration, "get", None) == {"id": "1"}
    assert await call(registration, "create", None) == {"created": {}}
    assert await call(registration, "light", None) == {"lit": {}}
