"""Wire query -> Query: an allow-list with bounds. What it does not name never reaches a database.

A Query's filter is in MongoDB's syntax with ids as the wire has them; `services/isolation.py` binds them to the tenant.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn

from bson import ObjectId

from hooks.errors import BadRequest
from services.prefix import pattern_of

OPERATORS = frozenset({"$in", "$nin", "$lt", "$lte", "$gt", "$gte", "$ne"})
OPTIONAL_OPERATORS = frozenset({"$exists", "$startsWith"})
"""Operators that a service may offer besides. So may it `$search`, which stands beside the fields."""

MAX_SKIP = 10_000
MAX_VALUES = 500
"""Values of one `$in` or `$nin`."""
MAX_BRANCHES = 20
"""Conditions of one `$or` or `$and`."""
MAX_SORT = 8
MAX_SELECT = 100
MAX_PATH = 256
MAX_PREFIX = 256
MAX_WORDS = 256
"""Characters of a `$search`."""
MAX_CURSOR = 8 * 1024
"""Characters of a cursor."""
MAX_SIZE = 16 * 1024
"""Bytes of all keys and values together; what is no text counts as eight."""
MAX_DEPTH = 34
"""32 levels that a client may send, and two that the tenancy hook puts around them."""

_SHAPES = frozenset({"$limit", "$skip", "$sort", "$select", "$search", "$after", "$before", "$cursor", "$total"})
_RESERVED_NAMES = frozenset({"constructor", "prototype"})
_INTEGER = re.compile(r"\s*([+-]?[0-9]{1,20})")
_SCALARS = (str, int, float, ObjectId, datetime)


class Paginate(NamedTuple):
    """Records in a page when the client does not say, and at most."""

    default: int
    max: int


class Position(NamedTuple):
    """Where a page by cursor begins: behind a cursor, or before it; None is the beginning."""

    cursor: str | None = None
    forward: bool = True


class Query(NamedTuple):
    """What a client asks for. `limit` None is no limit; `select` None is all fields."""

    filter: Mapping[str, Any]
    sort: tuple[tuple[str, int], ...] = ()
    skip: int = 0
    limit: int | None = None
    select: tuple[str, ...] | None = None
    position: Position | None = None
    """None: a page without cursors."""
    total: bool = True
    """Whether the matching records shall be counted."""


@dataclass(frozen=True, slots=True)
class QueryOptions:
    """What a service lets its clients ask."""

    paginate: Paginate | None = None
    operators: frozenset[str] = frozenset()
    """Those of `OPTIONAL_OPERATORS` that are offered."""
    hidden: frozenset[str] = frozenset()
    """Paths that nobody may filter, sort or select by: the answer would tell what they hold."""
    search: bool = False
    """Whether `$search` is offered."""
    everything: Query = field(init=False)
    """The Query of an empty query."""
    allowed: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        if unknown := self.operators - OPTIONAL_OPERATORS:
            raise ValueError(f"unknown operators: {', '.join(sorted(unknown))}")
        object.__setattr__(self, "everything", Query({}, limit=_limit(None, self.paginate)))
        object.__setattr__(self, "allowed", OPERATORS | self.operators)


def parse(raw: object, options: QueryOptions) -> Query:
    """A query as JSON or a query string brings it, checked and in order. The values of `raw` are shared, never changed.

    Raises:
        BadRequest: with a sentence, and the offending part as `data`.
    """
    if raw is None or raw == {}:
        return options.everything
    if not isinstance(raw, dict):
        raise BadRequest("The query must be an object")
    reader = _Reader(options)
    if _SHAPES.isdisjoint(raw):
        return Query(reader.conditions(raw, 1, top=True), limit=options.everything.limit)
    filter = reader.conditions({key: value for key, value in raw.items() if key not in _SHAPES}, 1, top=True)
    if "$search" in raw:
        if not options.search:
            raise BadRequest("Invalid filter value $search")
        filter["$search"] = reader.words(raw["$search"])
    skip = _skip(raw.get("$skip"))
    return Query(
        filter,
        reader.sort(raw["$sort"]) if "$sort" in raw else (),
        skip,
        _limit(raw.get("$limit"), options.paginate),
        None if raw.get("$select") is None else reader.select(raw["$select"]),
        None if _POSITIONS.isdisjoint(raw) else _position(raw, skip),
        "$total" not in raw or _boolean("$total", raw["$total"]),
    )


def parse_match(raw: object) -> Any:
    """What the items of a list are compared with: a value, operators, or conditions on the items' fields.

    Raises:
        BadRequest: it is none of them.
    """
    reader = _Reader(_PLAIN)
    if isinstance(raw, dict) and raw and str(next(iter(raw)))[:1] != "$":
        return reader.conditions(raw, 1, top=False)
    return reader.condition(raw, 1)


def parse_int(value: object) -> int | None:
    """The integer at the beginning of a value, as JavaScript's `parseInt(value, 10)` finds it; None is its NaN."""
    if isinstance(value, list) and value:
        return parse_int(value[0])
    if isinstance(value, str):
        found = _INTEGER.match(value)
        return int(found[1]) if found else None
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return int(value) if math.isfinite(value) else None
    return value if isinstance(value, int) else None


class _Reader:
    """Reads one query and counts its size."""

    __slots__ = ("_hidden", "_operators", "_room")

    def __init__(self, options: QueryOptions) -> None:
        self._operators = options.allowed
        self._hidden = options.hidden
        self._room = MAX_SIZE

    def conditions(self, part: dict[str, Any], depth: int, *, top: bool) -> dict[str, Any]:
        """An object of fields and `$and`, `$or`. `top`: in Feathers' eyes its `$` keys are filters, not parameters."""
        if depth > MAX_DEPTH:
            _refuse_depth()
        found: dict[str, Any] = {}
        for key, value in part.items():
            if key in {"$and", "$or"}:
                found[key] = self._branches(key, value, depth + 1, top=top and key == "$and")
            elif isinstance(key, str) and key[:1] == "$":
                if top:
                    raise BadRequest(f"Invalid filter value {key[:MAX_PATH]}")
                raise BadRequest(f"Invalid query parameter {key[:MAX_PATH]}", data=part)
            else:
                self._check_path(key, whole=True)
                found[key] = self.condition(value, depth + 1)
        return found

    def sort(self, raw: object) -> tuple[tuple[str, int], ...]:
        if not isinstance(raw, dict):
            raise BadRequest("'$sort' must be an object such as {\"name\": 1}")
        if len(raw) > MAX_SORT:
            raise BadRequest(f"'$sort' takes at most {MAX_SORT} fields")
        keys = []
        for path, direction in raw.items():
            self._check_path(path, whole=True, part=raw)
            order = parse_int(direction)
            if order is None or abs(order) != 1:
                raise BadRequest(f"'$sort' needs 1 or -1 for '{path}'")
            keys.append((path, order))
        return tuple(keys)

    def select(self, raw: object) -> tuple[str, ...]:
        """Without paths below others that are selected: a database would take those for a contradiction."""
        names = [raw] if isinstance(raw, str) else raw
        if not isinstance(names, list) or len(names) > MAX_SELECT:
            raise BadRequest(f"'$select' must be a list of at most {MAX_SELECT} field names")
        for name in names:
            self._check_path(name, whole=False, part=raw)
        chosen = dict.fromkeys(names)
        return tuple(name for name in chosen if "." not in name or not any(up in chosen for up in ancestors(name)))

    def words(self, raw: object) -> str:
        if not isinstance(raw, str) or not raw.strip() or len(raw) > MAX_WORDS or "\0" in raw:
            raise BadRequest(f"'$search' must be a text of 1 to {MAX_WORDS} characters")
        self._check_value(raw, 1)
        return raw

    def _branches(self, key: str, raw: object, depth: int, *, top: bool) -> list[dict[str, Any]]:
        if not isinstance(raw, list) or not 1 <= len(raw) <= MAX_BRANCHES:
            raise BadRequest(f"'{key}' must be a list of 1 to {MAX_BRANCHES} queries")
        branches = []
        for part in raw:
            if not isinstance(part, dict):
                raise BadRequest(f"'{key}' must be a list of 1 to {MAX_BRANCHES} queries")
            branches.append(self.conditions(part, depth, top=top))
        return branches

    def condition(self, value: Any, depth: int) -> Any:
        """A field's condition: a value to equal, or an object of operators."""
        if type(value) is str and len(value) < 64 and value.isascii():
            self._spend(len(value))
            return value
        if not isinstance(value, dict) or not value or str(next(iter(value)))[:1] != "$":
            self._check_value(value, depth)
            return value
        found: dict[str, Any] = {}
        for operator, operand in value.items():
            if operator not in self._operators:
                raise BadRequest(f"Invalid query parameter {str(operator)[:MAX_PATH]}", data=value)
            self._spend(len(operator))
            if operator == "$exists":
                found[operator] = _boolean(operator, operand)
            elif operator == "$startsWith":
                self._check_value(operand, depth + 1)
                found["$regex"] = _pattern(operand)
            else:
                if operator in {"$in", "$nin"} and (not isinstance(operand, list) or len(operand) > MAX_VALUES):
                    raise BadRequest(f"'{operator}' must be a list of at most {MAX_VALUES} values")
                self._check_value(operand, depth + 1)
                found[operator] = operand
        return found

    def _check_value(self, value: Any, depth: int) -> None:
        """A plain value: nothing in it is an operator."""
        kind = type(value)
        if kind is str:
            self._spend(_size(value))
        elif kind is dict or kind is list:
            if depth > MAX_DEPTH:
                _refuse_depth()
            self._spend(2)
            if kind is dict:
                for key in value:
                    self._check_key(key, value)
                value = value.values()
            for child in value:
                self._check_value(child, depth + 1)
        else:
            self._spend(8)
            if value is not None and not isinstance(value, _SCALARS):
                raise BadRequest("The query has a value of a type that cannot be compared")
            if isinstance(value, float):
                if not math.isfinite(value):
                    raise BadRequest("Numbers in a query must be finite")
            elif isinstance(value, int) and not -(2**63) <= value < 2**63:
                raise BadRequest("Integers in a query must fit into 64 bits")

    def _check_key(self, key: Any, part: object) -> None:
        if not isinstance(key, str) or "." in key or not is_path(key[:MAX_PATH]):
            raise BadRequest(f"Invalid query parameter {str(key)[:MAX_PATH]}", data=part)
        self._spend(len(key))

    def _check_path(self, path: Any, *, whole: bool, part: object = None) -> None:
        """A field path that may be asked for; `whole`: by its whole value, so that nothing hidden may lie below it."""
        if not isinstance(path, str) or len(path) > MAX_PATH or not is_path(path):
            raise BadRequest(f"Invalid query parameter {str(path)[:MAX_PATH]}", data=part)
        self._spend(len(path))
        if self._hidden and self._is_hidden(path, whole=whole):
            raise BadRequest(f"Invalid query parameter {path}")

    def _is_hidden(self, path: str, *, whole: bool) -> bool:
        # `a.0.b` reaches what `a.b` names.
        path = ".".join(name for name in path.split(".") if not name.isdigit())
        if path in self._hidden or any(up in self._hidden for up in ancestors(path)):
            return True
        return whole and any(hidden.startswith(path + ".") for hidden in self._hidden)

    def _spend(self, size: int) -> None:
        self._room -= size
        if self._room < 0:
            raise BadRequest(f"The query is too large: at most {MAX_SIZE // 1024} KiB are allowed")


def _limit(raw: object, paginate: Paginate | None) -> int | None:
    limit = parse_int(raw)
    if limit is not None and limit < 0:
        limit = None
    if paginate is None:
        return limit
    return paginate.default if limit is None else min(limit, paginate.max)


def _skip(raw: object) -> int:
    skip = parse_int(raw) or 0
    if not 0 <= skip <= MAX_SKIP:
        raise BadRequest(f"'$skip' must be from 0 to {MAX_SKIP}")
    return skip


def _boolean(key: str, raw: object) -> bool:
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and raw in {"true", "false"}:
        return raw == "true"
    raise BadRequest(f"'{key}' must be true or false")


_POSITIONS = frozenset({"$after", "$before", "$cursor"})


def _position(raw: dict[str, Any], skip: int) -> Position | None:
    """A cursor that is null, or empty in a query string, is not there yet: the first page is asked for."""
    given = [(key, raw[key]) for key in ("$after", "$before") if raw.get(key) not in (None, "")]
    if not given:
        return Position() if raw.keys() & {"$after", "$before"} or _boolean("$cursor", raw["$cursor"]) else None
    if len(given) > 1 or skip:
        raise BadRequest(f"'{given[0][0]}' cannot stand beside '{'$skip' if skip else '$before'}'")
    key, cursor = given[0]
    if not isinstance(cursor, str) or len(cursor) > MAX_CURSOR:
        raise BadRequest(f"'{key}' must be a cursor of an earlier page")
    return Position(cursor, key == "$after")


def _pattern(raw: object) -> str:
    if not isinstance(raw, str) or not 1 <= len(raw) <= MAX_PREFIX or "\0" in raw:
        raise BadRequest(f"'$startsWith' must be a text of 1 to {MAX_PREFIX} characters")
    return pattern_of(raw)


def ancestors(path: str) -> list[str]:
    """The paths that a path lies below."""
    names = path.split(".")
    return [".".join(names[:length]) for length in range(1, len(names))]


@lru_cache(maxsize=2048)
def is_path(path: str) -> bool:
    """Whether a name or dotted path is one that a record can have. The parts of an id are nobody's business."""
    return _is_text(path) and not path.startswith("_id.") and all(map(is_name, path.split(".")))


def is_name(name: str) -> bool:
    """Whether a record may have a field of that name."""
    return (
        bool(name)
        and name[0] != "$"
        and "\0" not in name
        and name not in _RESERVED_NAMES
        and not (name.startswith("__") and name.endswith("__"))
    )


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _size(text: str) -> int:
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise BadRequest("The query has a text that is not valid Unicode") from error


def _refuse_depth() -> NoReturn:
    raise BadRequest("The query is nested too deeply")


_PLAIN = QueryOptions()
