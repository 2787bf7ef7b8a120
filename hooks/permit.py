"""Access rules: who may call a method, and which records it then reaches. `hooks/rules.py` has their language."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable

from hooks.authenticate import authenticate, identify
from hooks.conditions import Conditions
from hooks.context import Guard, HookContext, Params, Record
from hooks.errors import Forbidden, MethodNotAllowed
from hooks.rules import WORDS, Rule, check_rule, fields_of, needs_login, scope_of

Permit = Callable[[HookContext], Awaitable[None] | None]
_PLAIN = Conditions()


def permit(
    rule: Rule, *, conditions: Conditions = _PLAIN, guards: bool = False, watch: frozenset[str] = frozenset()
) -> Permit:
    """A before hook that enforces the rule on external calls. Internal calls are trusted.

    A service that `guards` finds what records it may reach in `params.guard`; any other finds it in its query, as one more
    condition. `watch` are the fields on which it depends who may read a record, for methods that may change them.

    Raises:
        ValueError: a rule that is none.
    """
    try:
        check_rule(rule)
    except ValueError as error:
        raise ValueError(f"A rule {error}") from error
    words: dict[Rule, Permit] = dict(zip(WORDS, (_welcome, _require_login, _refuse), strict=True))
    if isinstance(rule, str):
        return _watched(words[rule], watch) if watch and guards else words[rule]
    fields = fields_of(rule)
    sign_in = authenticate if needs_login(rule) else identify

    async def restrict(context: HookContext) -> None:
        params = context.params
        scope: Record | None = None
        if params.provider is not None:
            await sign_in(context)
            reached = scope_of(rule, caller(params))
            if reached is False:
                raise Forbidden()
            if reached is not True:
                scope = conditions(reached)
        if not guards:
            if scope is not None:
                params.query = {**params.query, "$and": [*params.query.get("$and", []), scope]}
        elif scope is not None or watch:
            context.params = params.guarded(Guard(scope, fields, watch))

    return restrict


def caller(params: Params) -> Record | None:
    """Who calls, for rules: None is a stranger; a login without a user, such as an API key's, has no values."""
    return params.user if params.user is not None or not params.authenticated else {}


def _watched(word: Permit, watch: frozenset[str]) -> Permit:
    async def check(context: HookContext) -> None:
        answer = word(context)
        if inspect.isawaitable(answer):
            await answer
        context.params = context.params.guarded(Guard(watch=watch))

    return check


def _refuse(context: HookContext) -> None:
    if context.params.provider is not None:
        raise MethodNotAllowed(f"Method '{context.method}' not allowed on service '{context.path}'")


def _welcome(context: HookContext) -> Awaitable[None] | None:
    return identify(context) if context.params.token is not None else None


def _require_login(context: HookContext) -> Awaitable[None] | None:
    params = context.params
    return None if params.authenticated or params.provider is None else authenticate(context)
