"""Permits: rules enforced on external calls, fail closed, and never in the way of internal ones."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from hooks.context import Authentication, HookContext, Params
from hooks.errors import FeathersError, Forbidden, MethodNotAllowed, NotAuthenticated
from hooks.permit import permit
from hooks.tenant import Tenant

ADA = {"_id": "u1", "team": {"id": 7}, "permissions": ["write"]}


class Door:
    """An application that knows one token."""

    async def authenticate(self, params: Params) -> None:
        if params.token != "good":
            raise NotAuthenticated("invalid token")
        params.user = ADA
        params.authenticated = True

    async def call(self, *args: Any, **kwargs: Any) -> HookContext:
        raise AssertionError("no call is expected")


def a_context(*, logged_in: bool = False, token: str | None = None, provider: str | None = "rest") -> HookContext:
    params = Params(tenant=Tenant("acme", "Acme"), provider=provider, token=token)
    if logged_in:
        params.user, params.authenticated = ADA, True
        params.authentication = Authentication("jwt", "good", {})
    return HookContext(app=Door(), service=None, path="notes", method="find", params=params)


async def ask(rule: Any, context: HookContext, **options: Any) -> type[FeathersError] | None:
    try:
        answer = permit(rule, **options)(context)
        if inspect.isawaitable(answer):
            await answer
    except FeathersError as error:
        return type(error)
    return None


@pytest.mark.parametrize(
    ("rule", "stranger", "user"),
    [
        ("public", None, None),
        ("authenticated", NotAuthenticated, None),
        ("nobody", MethodNotAllowed, MethodNotAllowed),
        ({"owner": "$user._id"}, NotAuthenticated, None),
        ({"owner": "$user.missing"}, NotAuthenticated, Forbidden),
        ({"permission": "write"}, NotAuthenticated, None),
        ({"permission": "sign"}, NotAuthenticated, Forbidden),
        ({"all": ["authenticated", {"permission": "write"}]}, NotAuthenticated, None),
        ({"any": ["nobody", {"open": True}]}, None, None),
        ({"any": ["nobody"]}, NotAuthenticated, Forbidden),
    ],
)
async def test_who_passes(rule: Any, stranger: Any, user: Any) -> None:
    assert await ask(rule, a_context()) is stranger
    assert await ask(rule, a_context(logged_in=True)) is user
    assert await ask(rule, a_context(token="good")) is user
    assert await ask(rule, a_context(token="bad")) is stranger
    assert await ask(rule, a_context(provider=None)) is None


async def test_a_template_restricts_the_query() -> None:
    context = a_context(logged_in=True)
    context.params.query = {"$and": [{"app_id": "acme"}], "$limit": 1}
    assert await ask({"owner": "$user._id"}, context) is None
    assert context.params.query == {"$and": [{"app_id": "acme"}, {"owner": "u1"}], "$limit": 1}


async def test_a_service_that_guards_finds_its_scope_in_the_guard() -> None:
    context = a_context(logged_in=True)
    given = context.params
    assert await ask({"owner": "$user._id"}, context, guards=True, watch=frozenset({"owner"})) is None
    guard = context.params.guard
    assert guard is not None
    assert guard.scope == {"owner": "u1"}
    assert guard.fields == guard.watch == frozenset({"owner"})
    assert context.params.query == {}
    assert given.guard is None, "a guard is for one call, not for all that share its params"


async def test_a_word_watches_what_decides_who_reads() -> None:
    for provider in ("rest", None):
        context = a_context(logged_in=True, provider=provider)
        assert await ask("authenticated", context, guards=True, watch=frozenset({"owner"})) is None
        guard = context.params.guard
        assert guard is not None
        assert guard.scope is None
        assert guard.watch == frozenset({"owner"})
    context = a_context(logged_in=True)
    assert await ask("authenticated", context, guards=True) is None
    assert context.params.guard is None


async def test_internal_calls_have_no_scope() -> None:
    context = a_context(provider=None)
    assert await ask({"owner": "$user._id"}, context, guards=True) is None
    assert context.params.guard is None


def test_a_rule_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="A rule is one of public"):
        permit("everybody")
