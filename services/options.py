"""What a data service keeps, where, and what it lets its clients do."""

from __future__ import annotations

from dataclasses import dataclass

from services.query import Paginate
from services.search import SLOTS
from services.update import UPDATE_OPERATORS

MULTI_METHODS = frozenset({"create", "patch", "remove"})


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """What a service keeps, where, and what it lets its clients do."""

    collection: str
    id: str = "_id"
    """The field that holds a record's id. One of its own is kept as it is given, and generated as text when missing."""
    paginate: Paginate | None = None
    """None answers `find` with a bare list."""
    multi: frozenset[str] = frozenset()
    """Those of create, patch and remove that may take many records at once."""
    operators: frozenset[str] = frozenset()
    """Query operators that are offered besides the usual ones: `$exists`, `$startsWith`, `$search`."""
    hidden: frozenset[str] = frozenset()
    """See `services.query.QueryOptions`."""
    search: tuple[str, ...] = ()
    """Fields in which `$search` looks for words. All services of a collection name the same, also those without `$search`."""
    updates: frozenset[str] = frozenset()
    """The update operators that stand at the top of patch data: those of `services.update.UPDATE_OPERATORS`."""
    readonly: frozenset[str] = frozenset()
    """Fields that no client may write: see `hooks.readonly`."""

    def __post_init__(self) -> None:
        if unknown := self.updates - {*UPDATE_OPERATORS}:
            raise ValueError(f"unknown update operators: {', '.join(sorted(unknown))}")
        if "$search" in self.operators and not self.search:
            raise ValueError("$search needs fields to look in")
        if len(self.search) > len(SLOTS) or len(set(self.search)) < len(self.search):
            raise ValueError(f"search is for at most {len(SLOTS)} different fields")
        if "$search" in self.operators and (shown := self.hidden.intersection(self.search)):
            raise ValueError(f"words of hidden fields cannot be searched for: {', '.join(sorted(shown))}")
        if unknown := self.multi - MULTI_METHODS:
            raise ValueError(f"multi is for create, patch and remove, not {', '.join(sorted(unknown))}")
