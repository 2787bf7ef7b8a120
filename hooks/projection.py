"""`$select`: records cut to the fields that a caller asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hooks.context import Record


def selection(query: Mapping[str, Any]) -> list[str] | None:
    """The fields that `$select` names; None when there is none, or one that the service is still to refuse."""
    select = query.get("$select")
    names = [select] if isinstance(select, str) else select
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    return names


def project(record: Any, names: Sequence[str]) -> Any:
    """A record cut to the named fields; a dotted name keeps just that part of a nested object."""
    if not isinstance(record, Mapping):
        return record
    cut: Record = {}
    for name in names:
        head, _, rest = name.partition(".")
        if head not in record:
            continue
        if not rest:
            cut[head] = record[head]
        else:
            part = record[head]
            parts = [project(item, [rest]) for item in part] if isinstance(part, list) else project(part, [rest])
            if isinstance(parts, dict) and isinstance(cut.get(head), dict):
                parts = {**cut[head], **parts}
            cut[head] = parts
    return cut
