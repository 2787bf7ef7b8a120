"""A filter as a function: whether a document matches, decided in this process just as MongoDB would.

`None` and missing are one for equality, arrays match by their elements and as a whole, values of different kinds never
compare, `True` is not `1`, and embedded objects are equal when their keys stand in the same order. Values are those
that Roost stores: null, booleans, 64-bit integers, floats, strings, dates, ObjectIds, bytes, lists, objects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from operator import ge, gt, le, lt
from typing import Any, TypeAlias

from bson import ObjectId

from hooks.errors import BadRequest
from services.prefix import prefix_of

Predicate: TypeAlias = Callable[[Mapping[str, Any]], bool]
Key: TypeAlias = tuple[Any, ...]
"""A value as nested tuples that begin with the rank of its kind: they compare as BSON values do."""

_Test: TypeAlias = Callable[[Any], bool]


class _Missing:
    """Stands for a field that is not there."""


_MISSING = _Missing()

_NULL = (10,)
_UNDEFINED = (5,)
_RANKS: Mapping[type, int] = {
    bool: 60, int: 15, float: 15, str: 20, dict: 25, list: 30, bytes: 40, ObjectId: 50, datetime: 70
}  # fmt: skip


TYPES: Mapping[str, int] = {
    "null": 10, "number": 15, "string": 20, "object": 25, "array": 30, "binData": 40, "objectId": 50, "bool": 60, "date": 70
}  # fmt: skip
"""The ranks of kinds by the names that MongoDB's `$type` has for them, in order."""


def compile_filter(filter: Mapping[str, Any]) -> Predicate:
    """The function that says whether a document matches the filter. Neither is ever changed.

    Raises:
        ValueError: an operator that is none of ours. BadRequest: `$search`, which takes a database's text index.
    """
    tests = [_compile_entry(key, value) for key, value in filter.items()]
    if len(tests) == 1:
        return tests[0]
    return lambda document: all(test(document) for test in tests)


def key_of(value: Any) -> Key:
    """A value's place in BSON's order; equal keys are equal values."""
    kind = type(value)
    if kind is str:
        return (20, value)
    if value is None:
        return _NULL
    rank = _RANKS.get(kind) or _rank_of_subclass(value)
    make = _PARTS.get(rank)
    return (rank, value) if make is None else (rank, *make(value))


def sort_documents(documents: list[Any], sort: Sequence[tuple[str, int]]) -> None:
    """Sorts in place by fields as MongoDB does: of an array the least element counts, or the greatest when descending.

    Raises:
        BadRequest: two of the fields are arrays beside each other in one document.
    """
    orders = [order for _, order in sort]
    paths = [tuple(path.split(".")) for path, _ in sort]
    keys = {id(document): _sort_key(document, paths, orders) for document in documents}
    for index in range(len(orders) - 1, -1, -1):
        documents.sort(key=lambda document: keys[id(document)][index], reverse=orders[index] < 0)


def _compile_entry(key: str, value: Any) -> Predicate:
    if key == "$and":
        every = [compile_filter(branch) for branch in value]
        return lambda document: all(test(document) for test in every)
    if key == "$or":
        some = [compile_filter(branch) for branch in value]
        return lambda document: any(test(document) for test in some)
    if key == "$nor":
        none = [compile_filter(branch) for branch in value]
        return lambda document: not any(test(document) for test in none)
    if key == "$text":
        raise BadRequest("'$search' needs a database: these records are kept in memory")
    if key.startswith("$"):
        raise ValueError(f"{key} is not matched in this process")
    path = tuple(key.split("."))
    if isinstance(value, Mapping) and next(iter(value), "").startswith("$"):
        tests = [_compile_operator(path, operator, operand) for operator, operand in value.items()]
        return tests[0] if len(tests) == 1 else lambda document: all(test(document) for test in tests)
    return _on_path(path, _equals(value))


def _compile_operator(path: tuple[str, ...], operator: str, operand: Any) -> Predicate:
    make = _OPERATORS.get(operator)
    if make is not None:
        return _on_path(path, make(operand))
    if operator in {"$ne", "$nin"}:
        return _negate(_on_path(path, _equals(operand) if operator == "$ne" else _equals_any(operand)))
    if operator == "$exists":
        exists = _on_path(path, lambda value: value is not _MISSING)
        return exists if operand else _negate(exists)
    raise ValueError(f"{operator} is not matched in this process")


def _negate(predicate: Predicate) -> Predicate:
    return lambda document: not predicate(document)


def _equals(operand: Any) -> _Test:
    if operand is None:
        return lambda value: value is None or value is _MISSING
    if type(operand) is str or type(operand) is ObjectId:
        return lambda value: bool(value == operand)
    wanted = key_of(operand)
    return lambda value: value is not _MISSING and key_of(value) == wanted


def _equals_any(operands: Sequence[Any]) -> _Test:
    wanted = {key_of(operand) for operand in operands}
    has_null = _NULL in wanted
    return lambda value: has_null if value is _MISSING else key_of(value) in wanted


def _in_range(compare: Callable[[Any, Any], Any], operand: Any) -> _Test:
    wanted = key_of(operand)
    if wanted == _NULL:
        has_equal = compare(0, 0)
        return lambda value: has_equal and (value is None or value is _MISSING)
    rank = wanted[0]

    def test(value: Any) -> bool:
        if value is _MISSING:
            return False
        key = key_of(value)
        return key[0] == rank and bool(compare(key, wanted))

    return test


def _begins(pattern: str) -> _Test:
    prefix = prefix_of(pattern)
    return lambda value: isinstance(value, str) and value.startswith(prefix)


def _is_of_type(names: Sequence[str]) -> _Test:
    ranks = {TYPES[name] for name in names}
    return lambda value: value is not _MISSING and rank_of(value) in ranks


_OPERATORS: Mapping[str, Callable[[Any], _Test]] = {
    "$eq": _equals,
    "$in": _equals_any,
    "$lt": partial(_in_range, lt),
    "$lte": partial(_in_range, le),
    "$gt": partial(_in_range, gt),
    "$gte": partial(_in_range, ge),
    "$regex": _begins,
    "$type": _is_of_type,
}


def _on_path(path: tuple[str, ...], test: _Test) -> Predicate:
    """Whether any value that the path reaches in a document passes the test."""
    if len(path) == 1:
        name = path[0]

        def check(document: Mapping[str, Any]) -> bool:
            value = document.get(name, _MISSING)
            return test(value) if type(value) is not list else any(map(test, value)) or test(value)

        return check
    return lambda document: any(map(test, _reach(document, path, 0)))


def _reach(document: Mapping[str, Any], path: tuple[str, ...], at: int) -> list[Any]:
    """The values under a path: through every object of an array, by index too, and the elements of one at its end."""
    value = document.get(path[at], _MISSING)
    at += 1
    if at == len(path):
        return [*value, value] if type(value) is list else [value]
    if isinstance(value, Mapping):
        return _reach(value, path, at)
    if type(value) is list:
        return _reach_into(value, path, at)
    return [_MISSING]


def _reach_into(array: list[Any], path: tuple[str, ...], at: int) -> list[Any]:
    found: list[Any] = []
    for item in array:
        if isinstance(item, Mapping):
            found += _reach(item, path, at)
    index = _index(path[at])
    if index is not None and index < len(array):
        item = array[index]
        if at + 1 == len(path):
            found += [item]
        elif isinstance(item, Mapping):
            found += _reach(item, path, at + 1)
        elif type(item) is list:
            found += _reach_into(item, path, at + 1)
    return found


def _index(name: str) -> int | None:
    return int(name) if name.isascii() and name.isdigit() and (name == "0" or name[0] != "0") else None


def _sort_key(document: Mapping[str, Any], paths: list[tuple[str, ...]], orders: list[int]) -> tuple[Key, ...]:
    rows = _sort_rows(document, paths)
    best = rows[0]
    for row in rows[1:]:
        for one, other, order in zip(row, best, orders, strict=True):
            if one != other:
                if (one < other) == (order > 0):
                    best = row
                break
    return best


def _sort_rows(document: Mapping[str, Any], paths: list[tuple[str, ...]]) -> list[tuple[Key, ...]]:
    """What the paths hold together in a document: one row, or one for each element of the array on their way."""
    row: list[Key] = [_NULL] * len(paths)
    array: list[Any] | None = None
    waiting: list[tuple[int, tuple[str, ...]]] = []
    for index, path in enumerate(paths):
        value, rest, whole = _descend(document, path)
        if type(value) is list and not (whole and value):
            if array is not None and value is not array:
                raise BadRequest("Records cannot be sorted by two arrays at once")
            array = value
            waiting.append((index, rest))
        elif value is not _MISSING:
            row[index] = key_of(value)
    if array is None:
        return [tuple(row)]
    rows = []
    for item in array or [_MISSING]:
        for index, rest in waiting:
            if not rest:
                row[index] = _UNDEFINED if item is _MISSING else key_of(item)
        deeper = [(index, rest) for index, rest in waiting if rest]
        inner = _sort_rows(item if isinstance(item, Mapping) else {}, [rest for _, rest in deeper]) if deeper else [()]
        for keys in inner:
            for (index, _), key in zip(deeper, keys, strict=True):
                row[index] = key
            rows.append(tuple(row))
    return rows


def _descend(document: Mapping[str, Any], path: tuple[str, ...]) -> tuple[Any, tuple[str, ...], bool]:
    """Follows a path to its end or to the first array, which an index passes.

    Returns the value, what is left of the path, and whether the value counts as a whole: an index names one element.
    """
    value: Any = document
    whole = False
    for at, name in enumerate(path):
        if isinstance(value, Mapping):
            value = value.get(name, _MISSING)
            whole = False
        elif type(value) is list:
            index = _index(name)
            if index is None or index >= len(value):
                return value, path[at:], False
            value = value[index]
            whole = True
        else:
            return _MISSING, (), False
    return value, (), whole


def rank_of(value: Any) -> int:
    """The rank of a value's kind in BSON's order: see `TYPES`.

    Raises:
        BadRequest: a kind that Roost does not keep.
    """
    return 10 if value is None else _RANKS.get(type(value)) or _rank_of_subclass(value)


def _rank_of_subclass(value: Any) -> int:
    for kind, rank in _RANKS.items():
        if isinstance(value, kind):
            return rank
    raise BadRequest("The query or record has a value that cannot be compared")


def _milliseconds(moment: datetime) -> int:
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000 // 1)


_PARTS: Mapping[int, Callable[[Any], tuple[Any, ...]]] = {
    25: lambda value: tuple([(rank_of(child), name, key_of(child)) for name, child in value.items()]),
    30: lambda value: tuple([key_of(child) for child in value]),
    40: lambda value: (len(value), bytes(value)),
    70: lambda value: (_milliseconds(value),),
}
