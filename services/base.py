"""The service contract: what a class offers to be callable."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from hooks.context import Record

STANDARD_METHODS = ("find", "get", "create", "update", "patch", "remove")
EVENTS = {"create": "created", "update": "updated", "patch": "patched", "remove": "removed"}
"""The event that follows each writing method."""

RESERVED_METHODS = frozenset(
    "all around before after error hooks setup teardown publish on once emit "
    "constructor prototype id options methods events".split()
)
"""Names that no custom method may bear."""


class Cursors(TypedDict):
    """Where the neighbouring pages begin: for `$after` and `$before`; None where there is none."""

    next: str | None
    previous: str | None


class Page(TypedDict):
    """The envelope of a paginated `find`; `limit` is the limit actually used."""

    limit: int
    skip: int
    data: list[Record]
    total: NotRequired[int]
    """Missing when `$total: false` has spared the count."""
    cursor: NotRequired[Cursors]
    """There when it was asked for."""


class Service:
    """A service defines any of the six standard methods, and custom methods `async def name(self, data, params)`.

        async def find(self, params) -> Page | list[Record]
        async def get(self, id, params) -> Record
        async def create(self, data, params) -> Record | list[Record]
        async def update(self, id, data, params) -> Record
        async def patch(self, id, data, params) -> Record | list[Record]      id None: all that match the query
        async def remove(self, id, params) -> Record | list[Record]           id None: all that match the query

    Methods that write return whole records: the caller's `$select` is applied to the answer alone, so that hooks and
    events see the full record.
    """

    id: str = "_id"
    """The field that holds a record's id."""
    control_plane: bool = False
    """Whether only managers from the control plane may call it: the documents of other apps leave it out."""
    guards: bool = False
    """Whether the methods keep to `params.guard`; for others a rule with a condition adds it to the query."""
    updates: frozenset[str] = frozenset()
    """Keys with a `$`, such as `$inc`, that `patch` takes at the top of its data. Elsewhere such keys are refused."""
    readonly: frozenset[str] = frozenset()
    """Fields that no client may write: data that has them is refused before any other hook of the service sees it."""


def standard_methods(service: object) -> tuple[str, ...]:
    """The standard methods that a service object defines."""
    return tuple(name for name in STANDARD_METHODS if callable(getattr(service, name, None)))
