"""Update operators applied to a document in this process, just as MongoDB would: for the store in memory, and to see beforehand
what a change would make of a record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hooks.errors import BadRequest
from services.predicate import compile_filter, key_of
from services.store import Document

MAX_PADDING = 1_500_000
"""How far beyond its end a list can be filled up with nulls."""

_Change = Callable[[Any, Any], Any]
"""`(present, operand) -> value`."""


class _Missing:
    """Stands for a field that is not there."""


_MISSING = _Missing()


def apply(document: Mapping[str, Any], update: Mapping[str, Mapping[str, Any]]) -> Document:
    """A copy of the document with the changes of `services.update.read_update`.

    Raises:
        BadRequest: an operator does not fit what the document holds.
    """
    changed: Document = _copy(document)
    steps = [(path, operator, operand) for operator, changes in update.items() for path, operand in changes.items()]
    for path, operator, operand in sorted(steps, key=lambda step: step[0].split(".")):
        change = _CHANGES.get(operator)
        if change is None:
            raise BadRequest(f"{operator} is not known to the store in memory")
        _apply(changed, path.split("."), operator, change, operand)
    return changed


def _apply(document: Document, path: Sequence[str], operator: str, change: _Change, operand: Any) -> None:
    creates = operator not in ("$unset", "$pull")
    part: Any = document
    for at, name in enumerate(path):
        last = at == len(path) - 1
        place = _place(part, name, must=operator != "$unset")
        if place is None:
            return
        present = _get(part, place)
        if last:
            _put(part, place, change(present, operand))
        elif present is _MISSING:
            if not creates:
                return
            present = {}
            _put(part, place, present)
        part = present


def _place(part: Any, name: str, *, must: bool) -> Any:
    """The key or index by which a name is reached in a part of a document; None when it cannot be, and need not."""
    if isinstance(part, dict):
        return name
    if isinstance(part, list) and name.isascii() and name.isdigit() and (name == "0" or name[0] != "0"):
        index = int(name)
        if index - len(part) <= MAX_PADDING:
            return index
    if must:
        raise _unfit()
    return None


def _get(part: Any, place: Any) -> Any:
    if isinstance(part, dict):
        return part.get(place, _MISSING)
    return part[place] if place < len(part) else _MISSING


def _put(part: Any, place: Any, value: Any) -> None:
    if isinstance(part, dict):
        if value is _MISSING:
            part.pop(place, None)
        else:
            part[place] = value
    elif place < len(part):
        part[place] = None if value is _MISSING else value
    elif value is not _MISSING:
        part.extend([None] * (place - len(part)))
        part.append(value)


def _set(present: Any, operand: Any) -> Any:
    return _copy(operand)


def _unset(present: Any, operand: Any) -> Any:
    return _MISSING


def _inc(present: Any, operand: Any) -> Any:
    return operand if present is _MISSING else _number(present, lambda number: number + operand)


def _mul(present: Any, operand: Any) -> Any:
    return type(operand)(0) if present is _MISSING else _number(present, lambda number: number * operand)


def _number(present: Any, compute: Callable[[Any], Any]) -> Any:
    if isinstance(present, bool) or not isinstance(present, (int, float)):
        raise _unfit()
    result = compute(present)
    if isinstance(result, int) and not -(2**63) <= result < 2**63:
        raise _unfit()
    return result


def _min(present: Any, operand: Any) -> Any:
    return operand if present is _MISSING or key_of(operand) < key_of(present) else present


def _max(present: Any, operand: Any) -> Any:
    return operand if present is _MISSING or key_of(operand) > key_of(present) else present


def _push(present: Any, operand: Any) -> Any:
    items = [*_list(present)]
    if not (isinstance(operand, dict) and "$each" in operand):
        return [*items, _copy(operand)]
    position = operand.get("$position", len(items))
    position = max(0, len(items) + position) if position < 0 else position
    items[position:position] = _copy(operand["$each"])
    if "$slice" in operand:
        slice = operand["$slice"]
        return items[slice:] if slice < 0 else items[:slice]
    return items


def _add_to_set(present: Any, operand: Any) -> Any:
    items = [*_list(present)]
    new = operand["$each"] if isinstance(operand, dict) and "$each" in operand else [operand]
    keys = {key_of(item) for item in items}
    for item in new:
        key = key_of(item)
        if key not in keys:
            keys.add(key)
            items.append(_copy(item))
    return items


def _pull(present: Any, operand: Any) -> Any:
    if present is _MISSING:
        return _MISSING
    if not isinstance(present, list):
        raise _unfit()
    if not isinstance(operand, dict):
        unwanted = key_of(operand)
        return [item for item in present if key_of(item) != unwanted]
    if str(next(iter(operand), ""))[:1] == "$":
        matches = compile_filter({"": operand})
        return [item for item in present if not matches({"": item})]
    matches = compile_filter(operand)
    return [item for item in present if not (isinstance(item, dict) and matches(item))]


def _list(present: Any) -> list[Any]:
    if present is _MISSING:
        return []
    if not isinstance(present, list):
        raise _unfit()
    return present


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(child) for key, child in value.items()}
    return [_copy(child) for child in value] if isinstance(value, list) else value


def _unfit() -> BadRequest:
    return BadRequest("The database does not accept these arguments.")


_CHANGES: Mapping[str, _Change] = {
    "$set": _set,
    "$unset": _unset,
    "$inc": _inc,
    "$mul": _mul,
    "$min": _min,
    "$max": _max,
    "$push": _push,
    "$addToSet": _add_to_set,
    "$pull": _pull,
}
