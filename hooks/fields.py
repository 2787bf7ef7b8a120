"""What a declared schema says of a field, and the `objectid` keyword: fields that hold ids of other records.

On the wire such an id is 24 hex digits; in the store it is an ObjectId. Here the one becomes the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from bson import ObjectId

HEX_ID = "^[0-9a-fA-F]{24}$"
KEYWORD = "objectid"
COMPARING = frozenset({"$in", "$nin", "$lt", "$lte", "$gt", "$gte", "$ne"})
"""Operators whose operands are values of the field."""

F = TypeVar("F")
Convert = Callable[[str, Any, F], Any]
"""`(place, value, field) -> value`: a value that is compared with a field; a list that it shall equal comes as a whole."""


@dataclass(frozen=True, slots=True)
class Field:
    """One property: its JSON types (none: any), and what lies below it."""

    types: frozenset[str]
    is_id: bool
    below: Mapping[str, Field]
    items: Field | None
    has_ids: bool
    """Whether it or anything below it is an id."""

    @property
    def compared(self) -> Field:
        """What a single value is compared with: a list is matched by its items."""
        return self if self.items is None else self.items.compared


def read_fields(properties: Mapping[str, Any]) -> dict[str, Field]:
    """The fields of `{name: JSON Schema}`."""
    return {name: _read(entry) for name, entry in properties.items() if isinstance(entry, Mapping)}


def field_at(fields: Mapping[str, Field], path: str) -> Field | None:
    """The field at a dotted path, through objects and lists of them; None when nothing is declared there."""
    below = fields
    found: Field | None = None
    for name in path.split("."):
        if found is not None:
            if found.items is not None:
                found = found.items
                if name.isdecimal():
                    continue
            below = found.below
        found = below.get(name)
        if found is None:
            return None
    return found


def convert_query(query: Any, lookup: Callable[[str], F | None], convert: Convert[F], place: str = "") -> Any:
    """A copy of a query in which each value that is compared with a known field went through `convert`.

    `lookup` gives the field at a dotted path; `place` is where the query stands, such as `/$or/0`.
    """
    if not isinstance(query, dict):
        return query
    found = {}
    for key, value in query.items():
        here = f"{place}/{key}"
        if key in ("$and", "$or") and isinstance(value, list):
            found[key] = [convert_query(one, lookup, convert, f"{here}/{index}") for index, one in enumerate(value)]
        else:
            field = None if key[:1] == "$" else lookup(key)
            found[key] = value if field is None else _convert_condition(here, value, field, convert)
    return found


def query_to_ids(query: Any, fields: Mapping[str, Field]) -> Any:
    """A copy of a query with ids for their hex texts, wherever it compares with a field that holds ids."""
    return convert_query(query, lambda path: field_at(fields, path), _compared_ids)


def to_ids(value: Any, field: Field) -> Any:
    """A value of the field with ids for their hex texts, at any depth. Other texts stay, and equal no id."""
    if not field.has_ids:
        return value
    if isinstance(value, str):
        return ObjectId(value) if field.is_id and ObjectId.is_valid(value) else value
    if isinstance(value, list):
        items = field if field.items is None else field.items
        return [to_ids(item, items) for item in value]
    if isinstance(value, dict):
        return {key: to_ids(child, field.below[key]) if key in field.below else child for key, child in value.items()}
    return value


def as_json_schema(entry: Any) -> Any:
    """A property without the keyword, as a validator understands it.

    Raises:
        ValueError: the keyword stands beside another type than string.
    """
    if isinstance(entry, list):
        return [as_json_schema(item) for item in entry]
    if not isinstance(entry, Mapping):
        return entry
    plain = {key: as_json_schema(value) for key, value in entry.items()}
    if isinstance(marked := plain.get(KEYWORD), bool):
        del plain[KEYWORD]
        if marked and not _types(entry) <= {"string", "null"}:
            raise ValueError(f"{KEYWORD}: is for fields of the type string")
        if marked:
            plain = {"type": "string", "pattern": HEX_ID, **plain}
    return plain


def _compared_ids(place: str, value: Any, field: Field) -> Any:
    return to_ids(value, field if isinstance(value, list) else field.compared)


def _convert_condition(place: str, value: Any, field: F, convert: Convert[F]) -> Any:
    if not isinstance(value, dict) or not any(key[:1] == "$" for key in value):
        return convert(place, value, field)
    found = {}
    for operator, operand in value.items():
        here = f"{place}/{operator}"
        if operator in ("$in", "$nin") and isinstance(operand, list):
            found[operator] = [convert(f"{here}/{index}", item, field) for index, item in enumerate(operand)]
        else:
            found[operator] = convert(here, operand, field) if operator in COMPARING else operand
    return found


def _read(entry: Mapping[str, Any]) -> Field:
    properties, items = entry.get("properties"), entry.get("items")
    below = read_fields(properties) if isinstance(properties, Mapping) else {}
    item = _read(items) if isinstance(items, Mapping) else None
    is_id = entry.get(KEYWORD) is True
    has_ids = is_id or any(field.has_ids for field in below.values()) or (item is not None and item.has_ids)
    return Field(_types(entry), is_id, below, item, has_ids)


def _types(entry: Mapping[str, Any]) -> frozenset[str]:
    types = entry.get("type", ())
    return frozenset((types,) if isinstance(types, str) else types)
