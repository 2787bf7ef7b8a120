"""Rules: words and templates, fail closed, and never in the way of internal calls."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from hooks.context import Authentication, HookContext, Params
from hooks.errors import FeathersError, Forbidden, MethodNotAllowed, NotAuthenticated
from hooks.permit import permit, render, rule_for
from hooks.tenant import Tenant

ADA = {"_id": "u1", "team": {"id": 7}}


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


async def ask(rule: Any, context: HookContext) -> type[FeathersError] | None:
    try:
        answer = permit(rule)(context)
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


def test_what_is_not_declared_is_open_to_nobody() -> None:
    assert rule_for({}, "find") == "nobody"
    assert rule_for({"default": "public", "remove": "nobody"}, "find") == "public"
    assert rule_for({"default": "public", "remove": "nobody"}, "remove") == "nobody"


def test_templates_are_rendered_at_any_depth() -> None:
    assert render({"$or": [{"a": "$user._id"}, {"t": "$user.team.id"}], "n": 1}, ADA) == {
        "$or": [{"a": "u1"}, {"t": 7}],
        "n": 1,
    }


def test_a_rule_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="rule"):
        permit("everybody")
