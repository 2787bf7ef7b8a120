"""inject_app_id and enforce_app_id: the tenant goes into everything saved and around every query.

They are the first of three guards that know nothing of each other: after them `services/isolation.py` adds the same filter
again, and the database itself refuses what carries no tenant.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hooks.context import HookContext, Record
from hooks.errors import BadRequest

FIELD = "app_id"
FILTERS = frozenset({"$limit", "$skip", "$sort", "$select", "$search", "$after", "$before", "$cursor", "$total"})
"""Query keys that shape the answer and stay outside of the forced condition."""

_REFUSED = f"'{FIELD}' is set by the server and cannot be sent"


def enforce_app_id(context: HookContext) -> None:
    """Before all: forces the tenant outside of what the client sent, `{"$and": [{"app_id": X}, query]}`.

    Raises:
        BadRequest: when a client's query mentions `app_id` in any position.
    """
    params = context.params
    query = params.query
    if not isinstance(query, dict):
        raise BadRequest("The query must be an object")
    if params.provider is not None and mentions_app_id(query):
        raise BadRequest(_REFUSED)
    forced: dict[str, Any] = {"$and": [{FIELD: params.tenant.id}]}
    conditions: dict[str, Any] = {}
    for key, value in query.items():
        if key in FILTERS:
            forced[key] = value
        else:
            conditions[key] = value
    if conditions:
        forced["$and"].append(conditions)
    params.query = forced


def asked(query: Mapping[str, Any]) -> Record:
    """What a client asked, without what `enforce_app_id` has put around it: for services that keep their records elsewhere."""
    shape = {key: value for key, value in query.items() if key != "$and"}
    parts = [part for part in query.get("$and", ()) if part.keys() != {FIELD}]
    if len(parts) == 1 and shape.keys().isdisjoint(parts[0]):
        return {**shape, **parts[0]}
    return {**shape, "$and": parts} if parts else shape


def inject_app_id(context: HookContext) -> None:
    """Before create, update and patch: stamps the tenant on what is saved.

    Raises:
        BadRequest: when a client's data carries `app_id` in any position, operators and dotted paths included.
    """
    data = context.data
    if context.params.provider is not None and mentions_app_id(data):
        raise BadRequest(_REFUSED)
    if isinstance(data, dict):
        context.data = {**data, FIELD: context.tenant.id}
    elif isinstance(data, list):
        context.data = [{**item, FIELD: context.tenant.id} if isinstance(item, dict) else item for item in data]


def mentions_app_id(value: Any) -> bool:
    """Whether the field is named at any depth: as a key, as a part of a dotted path, or as the value of an operator."""
    if isinstance(value, list):
        return any(mentions_app_id(item) for item in value if isinstance(item, (dict, list)))
    if not isinstance(value, dict):
        return False
    for key, child in value.items():
        if _is_path(key) or (key in _NAMING and _names(child)):
            return True
        if isinstance(child, (dict, list)) and mentions_app_id(child):
            return True
    return False


_NAMING = frozenset({"$select", "$rename", "$unset"})
"""Operators whose values, not only whose keys, are field names."""


def _is_path(name: str) -> bool:
    return FIELD in name and FIELD in name.split(".")


def _names(value: Any) -> bool:
    if isinstance(value, str):
        return _is_path(value)
    if isinstance(value, dict):
        value = list(value.values())
    return isinstance(value, list) and any(_names(item) for item in value)
