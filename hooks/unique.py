"""A friendly word when a value is taken. It is no guard: only the unique index of the database is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from hooks.context import HookContext
from hooks.errors import Conflict

Naming = Callable[[HookContext], str]
"""What the caller calls the field."""


def unique(field: str, naming: Naming) -> Callable[[HookContext], Awaitable[None]]:
    """A before hook for create, update and patch: no other record of the tenant may have the value that is sent.

    Raises:
        Conflict: one has.
    """

    async def check(context: HookContext) -> None:
        data = context.data
        for item in data if isinstance(data, list) else [data]:
            value = item.get(field) if isinstance(item, Mapping) else None
            if value is not None and await _is_taken(context, field, value):
                raise taken(naming(context))

    return check


def unique_error(naming: Naming) -> Callable[[HookContext], None]:
    """An error hook: says the same when it was the database that noticed."""

    def reword(context: HookContext) -> None:
        if isinstance(context.error, Conflict):
            context.error = taken(naming(context))

    return reword


def taken(name: str) -> Conflict:
    """The error for a value that another record has. It does not repeat the value."""
    return Conflict(f"This {name} is already taken")


async def _is_taken(context: HookContext, field: str, value: Any) -> bool:
    query = {field: value, "$limit": 2}
    found: Any = (await context.app.call(context.path, "find", context.params.internal(query))).result
    records = found["data"] if isinstance(found, dict) else found
    return any(context.id is None or str(record["_id"]) != str(context.id) for record in records)
