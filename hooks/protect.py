"""Keeps fields inside the server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hooks.context import HookContext


def protect(*fields: str) -> Callable[[HookContext], None]:
    """An after hook: the fields stay in `result`, for internal callers, and are missing in `dispatch`, which leaves.

    It holds for single records, lists and pages, and so for events.
    """
    hidden = frozenset(fields)

    def strip(context: HookContext) -> None:
        context.dispatch = _strip(context.outcome, hidden)

    return strip


def _strip(outcome: Any, hidden: frozenset[str]) -> Any:
    if isinstance(outcome, list):
        return [_strip(record, hidden) for record in outcome]
    if not isinstance(outcome, Mapping):
        return outcome
    shown = {key: value for key, value in outcome.items() if key not in hidden}
    if "total" in outcome and isinstance(outcome.get("data"), list):
        shown["data"] = [_strip(record, hidden) for record in outcome["data"]]
    return shown
