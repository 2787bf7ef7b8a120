"""Update operators at the top of patch data: an allow-list per service, each path and value checked.

    {"text": "new", "$inc": {"likes": 1}, "$push": {"tags": {"$each": ["a", "b"], "$slice": -10}}, "$unset": {"draft": True}}

Plain fields are set. What leaves here is an update in MongoDB's syntax, in which no two operators touch the same path.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from hooks.context import Record
from hooks.errors import BadRequest
from services.query import MAX_PATH, is_name, is_path, parse_match
from services.store import Document

UPDATE_OPERATORS = ("$set", "$unset", "$inc", "$min", "$max", "$mul", "$push", "$pull", "$addToSet")
"""Those that a service may offer."""
MAX_CHANGES = 100
"""Paths that the operators of one patch change."""
MAX_EACH = 500
"""Values of one `$each`."""
MAX_INDEX = 9_999
"""The highest place in a list that a path may name: a list is filled up with nulls to there."""


def read_update(data: Record, offered: Collection[str], fixed: Collection[str]) -> Document:
    """The update that a patch asks for, `{operator: {path: operand}}`; empty when it changes nothing.

    `fixed` are the fields that stay: among the plain fields they are passed over, as in any patch.

    Raises:
        BadRequest: an operator that is not offered, a path that cannot be changed or is changed twice, an operand that
            does not fit its operator.
    """
    plain = {path: value for path, value in data.items() if path[:1] != "$" and path not in fixed}
    update: Document = {}
    if plain:
        update["$set"] = plain
    for operator, changes in data.items():
        if operator[:1] != "$":
            continue
        if operator not in offered:
            raise BadRequest(f"Invalid key '{operator[:MAX_PATH]}': keys may not begin with '$'{_offer(offered)}")
        if not isinstance(changes, Mapping):
            raise BadRequest(f"'{operator}' must be an object of fields")
        check = _CHECKS[operator]
        checked = {path: check(operator, operand) for path, operand in changes.items()}
        for path in checked:
            _check_path(path, fixed)
        if twice := update.get(operator, {}).keys() & checked.keys():
            raise _refuse_twice(*twice, *twice)
        if checked:
            update[operator] = {**update.get(operator, {}), **checked}
    _check_apart([path for changes in update.values() for path in changes])
    return update


def roots(update: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The fields of a record that an update touches."""
    return {path.partition(".")[0] for changes in update.values() for path in changes}


def _offer(offered: Collection[str]) -> str:
    names = [name for name in UPDATE_OPERATORS if name in offered]
    return f", except {', '.join(names)}" if names else ""


def _check_path(path: object, fixed: Collection[str]) -> None:
    if not isinstance(path, str) or len(path) > MAX_PATH or not is_path(path):
        raise BadRequest(f"Invalid field '{str(path)[:MAX_PATH]}'")
    root, *inner = path.split(".")
    if root in fixed:
        raise BadRequest(f"'{root}' cannot be changed")
    for name in inner:
        if name.isdigit() and (len(name) > len(str(MAX_INDEX)) or not name.isascii()):
            raise BadRequest(f"Invalid field '{path}': places in a list go up to {MAX_INDEX}")


def _check_apart(paths: list[str]) -> None:
    """No path is another's or lies below it: which of the two would count?"""
    if len(paths) > MAX_CHANGES:
        raise BadRequest(f"At most {MAX_CHANGES} fields can be changed by operators at once")
    seen: set[str] = set()
    for path in sorted(paths, key=len):
        names = path.split(".")
        for above in (".".join(names[:length]) for length in range(1, len(names) + 1)):
            if above in seen:
                raise _refuse_twice(above, path)
        seen.add(path)


def _refuse_twice(one: str, other: str) -> BadRequest:
    return BadRequest(
        f"'{one}' and '{other}' cannot be changed at once" if one != other else f"'{one}' is changed twice"
    )


def _any_value(operator: str, operand: Any) -> Any:
    check_value(operand)
    return operand


def _nothing(operator: str, operand: Any) -> Any:
    """What a client sends beside a field to be taken away says nothing."""
    return ""


def _number(operator: str, operand: Any) -> Any:
    if isinstance(operand, bool) or not isinstance(operand, (int, float)) or not math.isfinite(operand):
        raise BadRequest(f"'{operator}' needs a number")
    return operand


def _single_value(operator: str, operand: Any) -> Any:
    if isinstance(operand, (dict, list)):
        raise BadRequest(f"'{operator}' needs a single value")
    return operand


def _items(operator: str, operand: Any) -> Any:
    if not _has_operators(operand):
        check_value(operand)
        return operand
    modifiers = _MODIFIERS[operator]
    each = operand.get("$each")
    if not operand.keys() <= modifiers or not isinstance(each, list) or len(each) > MAX_EACH:
        raise BadRequest(
            f"'{operator}' takes a value, or {{$each: [...]}} with at most {MAX_EACH} values"
            + (" and $position, $slice" if len(modifiers) > 1 else "")
        )
    check_value(each)
    for name in ("$position", "$slice"):
        if name in operand and (type(operand[name]) is not int or abs(operand[name]) >= 2**31):
            raise BadRequest(f"'{name}' must be an integer")
    return operand


def _match(operator: str, operand: Any) -> Any:
    return parse_match(operand)


_MODIFIERS = {"$push": {"$each", "$position", "$slice"}, "$addToSet": {"$each"}}
_CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    "$set": _any_value,
    "$unset": _nothing,
    "$inc": _number,
    "$mul": _number,
    "$min": _single_value,
    "$max": _single_value,
    "$push": _items,
    "$addToSet": _items,
    "$pull": _match,
}


def check_value(value: Any) -> None:
    """A value to be kept: no key in it may be an operator, a path or a name that no record can have.

    Raises:
        BadRequest: names the key.
    """
    for child in _children(value):
        check_value(child)


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str) or "." in key or not is_name(key):
                raise BadRequest(f"Invalid key '{str(key)[:MAX_PATH]}': keys may not begin with '$' or contain '.'")
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _has_operators(value: Any) -> bool:
    return isinstance(value, dict) and any(str(key)[:1] == "$" for key in value)
