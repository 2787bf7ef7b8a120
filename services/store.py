"""The store: what Roost asks of a database, as the few commands that services need.

Two things implement it: the driver's own client, and the lean command path beside it (`services/database/`). Nothing here
knows about tenants: `services/isolation.py` wraps each collection before a service sees it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

_T = TypeVar("_T")

Document = dict[str, Any]
Filter = Mapping[str, Any]
Sort = Sequence[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Namespace:
    """A collection's full name."""

    database: str
    collection: str


class Collection(Protocol):
    """One collection. Every call is bounded in time and answers with one of our errors:

    Conflict for a duplicate unique key (`data` is None, the message names the field and never a value), Timeout when the
    time bound is passed, Unavailable when no server can be reached or the pool stays full, BadRequest when the server
    refuses the command's arguments or a validator the document, GeneralError for the rest.
    """

    @property
    def namespace(self) -> Namespace: ...

    async def find(
        self,
        filter: Filter,
        *,
        projection: Mapping[str, int] | None = None,
        sort: Sort = (),
        skip: int = 0,
        limit: int = 0,
    ) -> list[Document]:
        """The matching documents; limit 0 is all of them."""
        ...

    async def count(self, filter: Filter) -> int:
        """How many documents match."""
        ...

    async def insert(self, documents: Sequence[Document]) -> None:
        """Inserts all documents, in order, each with its `_id`; stops at the first that fails."""
        ...

    async def find_one_and_update(self, filter: Filter, update: Mapping[str, Any]) -> Document | None:
        """Applies update operators to one matching document and returns it as it is afterwards."""
        ...

    async def find_one_and_replace(self, filter: Filter, replacement: Document) -> Document | None:
        """Replaces one matching document (its `_id` stays) and returns it as it is afterwards."""
        ...

    async def find_one_and_delete(self, filter: Filter) -> Document | None:
        """Deletes one matching document and returns it."""
        ...

    async def update_many(self, filter: Filter, update: Mapping[str, Any]) -> int:
        """Applies update operators to all matching documents; returns how many matched."""
        ...

    async def delete_many(self, filter: Filter) -> int:
        """Deletes all matching documents; returns how many."""
        ...


class Store(Protocol):
    """A deployment's collections by name."""

    def collection(self, namespace: Namespace) -> Collection:
        """The collection of that name; nothing is sent."""
        ...

    async def transaction(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """Does work whose reads and writes take effect as a whole or not at all; it may be done several times.

        All effects of the work have to be in this store. Inside of another transaction it becomes a part of that one.
        """
        ...
