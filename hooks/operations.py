"""Patch data with update operators, judged by a schema or model: operands first, and where they do not tell all, the result.

`$set`, `$min` and `$max` put a value there that can be judged by itself. So do the others for fields of which only the type
is declared. For the rest (bounds, lengths, paths into objects) the record must be seen as it would become: see `Verify`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hooks.context import Record, Verify
from hooks.shape import Fault, Shape, failed

_WHOLE = frozenset({"$set", "$min", "$max"})
_ITEMS = frozenset({"$push", "$addToSet"})


def is_operation(data: Any) -> bool:
    """Whether patch data has update operators."""
    if type(data) is dict:
        # Every patch comes by here, some more than once: a generator would take twice as long.
        for key in data:
            if key[:1] == "$":
                return True
    return False


def read_operations(shape: Shape, data: Mapping[str, Any]) -> tuple[Record, Verify | None]:
    """The data as it is to be kept, and what the result must pass; None when the operands tell all.

    Raises:
        BadRequest: `validation failed`, with the faults of the operands.
    """
    reader = _Reader(shape)
    read, faults = shape.read({key: value for key, value in data.items() if key[:1] != "$"}, whole=False)
    reader.faults += faults
    kept: Record = dict(read)
    for operator, changes in data.items():
        if operator[:1] == "$":
            # What is no object is for the service to refuse.
            kept[operator] = reader.read(operator, changes) if isinstance(changes, Mapping) else changes
    if reader.faults:
        raise failed(reader.faults)
    return kept, _verify(shape, reader.touched) if reader.touched else None


class _Reader:
    """Reads the operators of one patch."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self.faults: list[Fault] = []
        self.touched: set[str] = set()
        """Fields of which the result must be seen."""

    def read(self, operator: str, changes: Mapping[str, Any]) -> Record:
        kept: Record = {}
        for path, operand in changes.items():
            try:
                kept[path] = self._operand(operator, path, operand)
            except _Ignored:
                continue
            except ValueError as error:
                self.faults.append({"path": f"/{operator}/{path}", "message": str(error)})
        return kept

    def _operand(self, operator: str, path: str, operand: Any) -> Any:
        root, dot, _ = path.partition(".")
        is_plain = self._shape.is_plain(path)
        if operator == "$unset" and not dot:
            if self._shape.requires(root):
                raise ValueError("is required")
            return operand
        if operator in _WHOLE and not dot:
            return self._value(path, operand, place=f"/{operator}")
        if not is_plain:
            self.touched.add(root)
        if operator in _ITEMS:
            return self._items(operator, path, operand, is_plain=is_plain)
        if operator == "$pull":
            return self._match(path, operand)
        if operator in _WHOLE:
            return self._shape.convert(path, operand)
        return self._value(path, operand, place=f"/{operator}") if is_plain and operator != "$unset" else operand

    def _value(self, name: str, value: Any, *, place: str) -> Any:
        """A value of a field by itself."""
        read, faults = self._shape.read({name: value}, whole=False)
        self.faults += [{**fault, "path": f"{place}{fault['path']}".rstrip("/")} for fault in faults]
        if name not in read:
            raise _Ignored
        return read[name]

    def _items(self, operator: str, path: str, operand: Any, *, is_plain: bool) -> Any:
        each = operand.get("$each") if isinstance(operand, Mapping) else None
        items = each if isinstance(each, list) else [operand]
        if is_plain:
            items = self._value(path, items, place=f"/{operator}")
        else:
            items = [self._shape.convert(path, item) for item in items]
        if isinstance(operand, Mapping) and isinstance(each, list):
            return {**operand, "$each": items}
        return items[0] if isinstance(items, list) and len(items) == 1 else operand

    def _match(self, path: str, operand: Any) -> Any:
        """What list items are compared with, like a query by the field or by fields below it."""
        if not isinstance(operand, Mapping) or str(next(iter(operand), "$"))[:1] == "$":
            query, faults = self._shape.read_query({path: operand})
            found = query[path]
        else:
            query, faults = self._shape.read_query({f"{path}.{name}": value for name, value in operand.items()})
            found = {name.removeprefix(f"{path}."): value for name, value in query.items()}
        self.faults += [{**fault, "path": f"/$pull{fault['path']}"} for fault in faults]
        return found


class _Ignored(Exception):
    """The shape passes over the field, as it does in plain data."""


def _verify(shape: Shape, touched: set[str]) -> Verify:
    def verify(record: Record) -> None:
        _, faults = shape.read({name: record[name] for name in touched if name in record}, whole=False)
        if faults:
            raise failed(faults)

    return verify
