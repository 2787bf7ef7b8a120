"""Access rules: who may call a method, and which records it then reaches.

A rule is `"public"`, `"authenticated"`, `"nobody"`, or a query template such as `{"owner_id": "$user._id"}`: then the caller
must be logged in, and the call reaches only the records that match.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from hooks.authenticate import authenticate, identify
from hooks.context import HookContext, Record
from hooks.errors import Forbidden, MethodNotAllowed

Rule = str | Mapping[str, Any]
Rules = Mapping[str, Rule]
"""A rule by method, and under `default` for the methods that are not named."""

WORDS = ("public", "authenticated", "nobody")
DEFAULT = "default"
_USER = "$user."


def rule_for(rules: Rules, method: str) -> Rule:
    """The rule of a method; what is not declared is open to nobody."""
    return rules.get(method, rules.get(DEFAULT, "nobody"))


def permit(rule: Rule) -> Callable[[HookContext], Awaitable[None] | None]:
    """A before hook that enforces the rule on external calls. Internal calls are trusted.

    Raises:
        ValueError: a rule that is none.
    """
    if rule == "nobody":
        return _refuse
    if rule == "public":
        return _welcome
    if rule == "authenticated":
        return _require_login
    if isinstance(rule, Mapping):
        template = dict(rule)

        async def restrict(context: HookContext) -> None:
            if context.params.provider is None:
                return
            await authenticate(context)
            _restrict(context, render(template, context.params.user))

        return restrict
    raise ValueError(f"A rule is one of {', '.join(WORDS)} or a query, not {rule!r}")


def render(template: Any, user: Record | None) -> Any:
    """A query template with each `$user.<path>` replaced by the user's value.

    Raises:
        Forbidden: the user has no such value: a missing one must not match records that lack the field.
    """
    if isinstance(template, str) and template.startswith(_USER):
        value: Any = user
        for part in template.removeprefix(_USER).split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is None:
            raise Forbidden()
        return value
    if isinstance(template, Mapping):
        return {key: render(value, user) for key, value in template.items()}
    if isinstance(template, list):
        return [render(item, user) for item in template]
    return template


def _refuse(context: HookContext) -> None:
    if context.params.provider is not None:
        raise MethodNotAllowed(f"Method '{context.method}' not allowed on service '{context.path}'")


def _welcome(context: HookContext) -> Awaitable[None] | None:
    return identify(context) if context.params.token is not None else None


def _require_login(context: HookContext) -> Awaitable[None] | None:
    params = context.params
    return None if params.authenticated or params.provider is None else authenticate(context)


def _restrict(context: HookContext, condition: Record) -> None:
    context.params.query = {**context.params.query, "$and": [*context.params.query.get("$and", []), condition]}
