"""Fields that the server alone writes: data of a client that has them is refused, not silently cut."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from hooks.context import HookContext
from hooks.errors import BadRequest


def refuse_readonly(fields: Iterable[str]) -> Callable[[HookContext], None]:
    """A before hook for external calls. It stands before hooks that write these fields themselves.

    Raises:
        BadRequest: names the field, wherever it is written: as a plain one, in an operator, by a path into it.
    """
    readonly = frozenset(fields)

    def refuse(context: HookContext) -> None:
        if context.params.provider is None or context.method not in _WRITING:
            return
        data = context.data
        for record in data if isinstance(data, list) else [data]:
            for field in _written(record):
                if field in readonly:
                    raise BadRequest(f"'{field}' is set by the server and cannot be sent")

    return refuse


_WRITING = frozenset({"create", "update", "patch"})


def _written(data: Any) -> Iterator[str]:
    if not isinstance(data, dict):
        return
    for key, value in data.items():
        if key[:1] == "$" and isinstance(value, dict):
            yield from (path.partition(".")[0] for path in value)
        else:
            yield key.partition(".")[0]
