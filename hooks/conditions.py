"""Conditions: a rule's query in the form in which records are kept, by what the service's schema says of its fields.

Texts that name ids become ids. A moment is compared as what the field holds: a text such as `2026-01-31T12:00:00.000Z`, the
milliseconds since 1970, or a date; with a field that is not declared, as all three, for only values of a kind compare.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from bson import ObjectId

from hooks.context import Record
from hooks.fields import Field, field_at, to_ids

_HEX_ID = re.compile(r"[0-9a-fA-F]{24}")
_NEVER: Mapping[str, Any] = {"$in": []}


class Conditions:
    """Prepares queries for the records of one service."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, Field] | None = None) -> None:
        """`fields` are those that the service's schema declares, by `hooks.fields.read_fields`."""
        self._fields = fields or {}

    def __call__(self, query: Mapping[str, Any]) -> Record:
        """The prepared copy."""
        parts = [self._entry(key, value) for key, value in query.items()]
        merged: Record = {}
        for part in parts:
            if not merged.keys().isdisjoint(part):
                return {"$and": parts}
            merged.update(part)
        return merged

    def _entry(self, key: str, value: Any) -> Record:
        if key in ("$or", "$and"):
            return {key: [self(branch) for branch in value]}
        if key == "_id":
            return {key: _id_condition(value)}
        field = field_at(self._fields, key)
        if not isinstance(value, Mapping):
            return {
                key: value if field is None else to_ids(value, field if isinstance(value, list) else field.compared)
            }
        plain: Record = {}
        moments: list[Record] = []
        for operator, operand in value.items():
            if isinstance(operand, datetime):
                forms = [{key: {operator: form}} for form in _forms(operand, field)]
                moments.append(forms[0] if len(forms) == 1 else {"$or": forms})
            elif field is None:
                plain[operator] = operand
            elif operator in ("$in", "$nin"):
                plain[operator] = [
                    to_ids(item, field if isinstance(item, list) else field.compared) for item in operand
                ]
            else:
                plain[operator] = to_ids(operand, field.compared)
        parts = [{key: plain}, *moments] if plain else moments
        return parts[0] if len(parts) == 1 else {"$and": parts}


def stored_id(value: Any) -> Any:
    """An id as it is kept: see `services.isolation.normalise_id`; None for what is none."""
    if isinstance(value, str):
        return ObjectId(value) if _HEX_ID.fullmatch(value) else value or None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(int(value)) if value == int(value) else None
    return value if isinstance(value, ObjectId) else None


def moment_text(moment: datetime) -> str:
    """A moment as JavaScript's `toISOString` writes it: such texts stand in the order of their moments."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _forms(moment: datetime, field: Field | None) -> list[Any]:
    types = frozenset() if field is None else field.compared.types
    forms: list[Any] = []
    if not types or "string" in types:
        forms.append(moment_text(moment))
    if not types or not types.isdisjoint({"number", "integer"}):
        forms.append(int(moment.timestamp() * 1000))
    return [*forms, moment] if not types or not forms else forms


def _id_condition(value: Any) -> Any:
    """A condition on ids; what is no id equals none and stands in no order with any."""
    if not isinstance(value, Mapping):
        id = stored_id(value)
        return _NEVER if id is None else id
    found: Record = {}
    for operator, operand in value.items():
        if operator in ("$in", "$nin"):
            found[operator] = [id for id in map(stored_id, operand) if id is not None]
        else:
            id = stored_id(operand)
            if id is not None:
                found[operator] = id
            elif operator != "$ne":
                return _NEVER
    return found or {"$nin": []}
