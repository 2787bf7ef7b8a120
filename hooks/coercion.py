"""Query strings hold nothing but text: over REST, what is compared with a declared field gets that field's type first.

A text that has no form of the declared type stays as it is, and equals nothing. So does one for a field that may hold text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from hooks.context import HookContext
from hooks.schema import Schema

_COMPARING = frozenset({"$in", "$nin", "$lt", "$lte", "$gt", "$gte", "$ne"})
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?([0-9]{1,18}(\.[0-9]{0,30})?|\.[0-9]{1,30})([eE][+-]?[0-9]{1,2})?")
_WORDS: Mapping[str, bool] = {"true": True, "false": False}


def coerce_query(schema: Schema) -> Callable[[HookContext], None]:
    """A before hook for all methods. Calls over sockets carry their types, and pass as they are."""

    def coerce(context: HookContext) -> None:
        params = context.params
        if params.provider == "rest":
            params.query = _conditions(params.query, schema.properties)

    return coerce


def _conditions(part: Any, properties: Mapping[str, Any]) -> Any:
    if not isinstance(part, dict):
        return part
    found = {}
    for key, value in part.items():
        if key in ("$and", "$or"):
            found[key] = [_conditions(branch, properties) for branch in value] if isinstance(value, list) else value
        elif key[:1] == "$":
            found[key] = value
        else:
            types = _types(key, properties)
            found[key] = _condition(value, types) if types and "string" not in types else value
    return found


def _condition(value: Any, types: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {key: _operand(operand, types) if key in _COMPARING else operand for key, operand in value.items()}
    return _operand(value, types)


def _operand(value: Any, types: frozenset[str]) -> Any:
    if isinstance(value, list):
        return [_scalar(item, types) if isinstance(item, str) else item for item in value]
    return _scalar(value, types) if isinstance(value, str) else value


def _scalar(text: str, types: frozenset[str]) -> Any:
    if "number" in types or "integer" in types:
        if _INTEGER.fullmatch(text):
            return int(text)
        if _NUMBER.fullmatch(text):
            return float(text)
    if "boolean" in types and text in _WORDS:
        return _WORDS[text]
    return None if "null" in types and not text else text


def _types(path: str, properties: Mapping[str, Any]) -> frozenset[str]:
    """The declared types of a field; of a list those of its items too, for it is matched by them."""
    entry: Mapping[str, Any] = {"properties": properties}
    for name in path.split("."):
        items = entry.get("items")
        if isinstance(items, Mapping):
            entry = items
            if name.isdigit():
                continue
        below = entry.get("properties", {}).get(name)
        if not isinstance(below, Mapping):
            return frozenset()
        entry = below
    items = entry.get("items")
    return _declared(entry) | (_declared(items) if isinstance(items, Mapping) else frozenset())


def _declared(entry: Mapping[str, Any]) -> frozenset[str]:
    types = entry.get("type", ())
    return frozenset((types,) if isinstance(types, str) else types)
