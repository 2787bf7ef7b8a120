"""What a schema and a model have in common: records and queries are read by them, and have faults."""

from __future__ import annotations

from typing import Any, Protocol

from hooks.errors import BadRequest

MAX_FAULTS = 50
"""Faults that one answer names."""

Fault = dict[str, str]
"""`{path, message}`; the path is a JSON pointer such as `/0/author/name`."""


class Shape(Protocol):
    """What records and queries of a service look like."""

    def read(self, record: Any, *, whole: bool) -> tuple[Any, list[Fault]]:
        """A record as it is to be kept, and its faults. A patch is not `whole`."""
        ...

    def read_query(self, query: Any) -> tuple[Any, list[Fault]]:
        """A query with values of the fields' types, and its faults."""
        ...

    def is_plain(self, path: str) -> bool:
        """Whether any value of the type that belongs there is valid, and of a list any number of its items."""
        ...

    def requires(self, name: str) -> bool:
        """Whether a record must have the field."""
        ...

    def convert(self, path: str, value: Any) -> Any:
        """A value at a path, or an item of the list there, as it is kept.

        Raises:
            ValueError: it has no form of the type.
        """
        ...


def failed(faults: list[Fault]) -> BadRequest:
    """The error that names the faults."""
    named = faults[:MAX_FAULTS]
    return BadRequest("validation failed", data=named, errors=named)
