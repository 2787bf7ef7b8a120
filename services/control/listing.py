"""Queries of the catalogue's services: a list of fields and operators, and nothing else of a query language (CP-10, CP-11)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hooks.errors import BadRequest

OPERATORS = ("$in", "$ne", "$gt", "$gte", "$lt", "$lte")
DEFAULT_LIMIT = 50
MOST = 100
"""Records of one page, and values of one `$in`."""
LONGEST = 256

Read = Callable[[str, Any], Any]
"""A value of a query as it is kept; raises BadRequest for what is none."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A page that is asked for: MongoDB's filter and order, the latter always ending with the id."""

    filter: dict[str, Any]
    sort: tuple[tuple[str, int], ...]
    limit: int
    skip: int


@dataclass(frozen=True, slots=True)
class Field:
    """A field by which may be asked and ordered: what it is called where it is kept, and how its values are read."""

    stored: str
    read: Read
    is_prefix: bool = False
    """Whether a value means what begins with it; operators are refused then."""


def text(name: str, value: Any) -> str:
    """Raises BadRequest for what is no short text."""
    if not isinstance(value, str) or len(value) > LONGEST:
        raise BadRequest(f"'{name}' is compared with a text of at most {LONGEST} characters")
    return value


def moment(name: str, value: Any) -> datetime:
    """Raises BadRequest for what is no date."""
    try:
        found = datetime.fromisoformat(text(name, value))
    except ValueError as error:
        raise BadRequest(f"'{name}' is compared with a date such as 2026-01-31T12:00:00Z") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def parse(query: Mapping[str, Any], fields: Mapping[str, Field]) -> Listing:
    """Reads a query from outside.

    Raises:
        BadRequest: a field, operator or value that cannot be asked for.
    """
    filter: dict[str, Any] = {}
    for name, value in query.items():
        if name in ("$limit", "$skip", "$sort"):
            continue
        if name not in fields:
            raise BadRequest(f"Nothing can be asked by '{name[:64]}': only by {', '.join(fields)}")
        filter[fields[name].stored] = _condition(name, value, fields[name])
    return Listing(
        filter,
        _order(query.get("$sort", {}), fields),
        min(_count("$limit", query.get("$limit", DEFAULT_LIMIT)), MOST),
        _count("$skip", query.get("$skip", 0)),
    )


def _condition(name: str, value: Any, field: Field) -> Any:
    if field.is_prefix:
        return {"$regex": f"^{re.escape(field.read(name, value))}"}
    if not isinstance(value, Mapping):
        return field.read(name, value)
    if not value:
        raise BadRequest(f"'{name}' is compared with nothing")
    condition: dict[str, Any] = {}
    for operator, operand in value.items():
        if operator not in OPERATORS:
            raise BadRequest(f"'{name}' can be asked by {', '.join(OPERATORS)}, not by '{operator[:64]}'")
        if operator == "$in":
            if not isinstance(operand, list) or len(operand) > MOST:
                raise BadRequest(f"'{name}': $in needs a list of at most {MOST} values")
            condition[operator] = [field.read(name, item) for item in operand]
        else:
            condition[operator] = field.read(name, operand)
    return condition


def _order(given: Any, fields: Mapping[str, Field]) -> tuple[tuple[str, int], ...]:
    if not isinstance(given, Mapping):
        raise BadRequest("$sort is an object of fields with 1 or -1")
    order: dict[str, int] = {}
    for name, direction in given.items():
        if name not in fields or str(direction) not in ("1", "-1"):
            raise BadRequest(f"$sort takes {', '.join(fields)}, each with 1 or -1")
        order[fields[name].stored] = int(direction)
    # Pages that follow each other must not repeat or lose what is equal in all else.
    order.setdefault("_id", 1)
    return tuple(order.items())


def _count(name: str, value: Any) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9:
        return value
    raise BadRequest(f"{name} is a whole number from 0 on")
