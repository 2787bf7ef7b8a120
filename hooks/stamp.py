"""Stamps: fields of new records that the server fills in, such as whose they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from hooks.conditions import moment_text
from hooks.context import HookContext, Record
from hooks.errors import Forbidden, NotAuthenticated
from hooks.permit import caller
from hooks.rules import NOW, USER, user_value


def stamp(values: Mapping[str, Any]) -> Callable[[HookContext], None]:
    """A before hook for create: external data gets these values, over what it brings.

    `$user.<path>` stands for the caller's value and `$now` for the moment, as a text such as `2026-01-31T12:00:00.000Z`.

    Raises:
        NotAuthenticated: a stranger has no such value. Forbidden: the caller has none.
    """
    stamps = dict(values)

    def fill(context: HookContext) -> None:
        params, data = context.params, context.data
        if params.provider is None:
            return
        rendered = {field: _render(value, field, context) for field, value in stamps.items()}
        if isinstance(data, list):
            context.data = [{**item, **rendered} if isinstance(item, dict) else item for item in data]
        elif isinstance(data, dict):
            context.data = {**data, **rendered}

    return fill


def check_stamp(value: object) -> None:
    """Refuses what is no value of a stamp.

    Raises:
        ValueError: with a sentence that says what is wrong.
    """
    if isinstance(value, str):
        if value.startswith("$") and value != NOW and not (value.startswith(USER) and all(value.split("."))):
            raise ValueError(f"'{value}' is neither {NOW} nor {USER}<field>")
    elif value is not None and not isinstance(value, (bool, int, float)):
        raise ValueError(f"is a text, a number, true, false, null, {NOW} or {USER}<field>")


def _render(value: Any, field: str, context: HookContext) -> Any:
    if value == NOW:
        return moment_text(datetime.now(UTC))
    if not isinstance(value, str) or not value.startswith(USER):
        return value
    user: Record | None = caller(context.params)
    found = user_value(user, value.removeprefix(USER))
    if found is None:
        raise NotAuthenticated() if user is None else Forbidden(f"Your account has nothing to fill in for '{field}'")
    return found
