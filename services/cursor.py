"""Cursors: a page goes on where another has ended, however many records came or went in between.

A cursor holds the values by which its record is sorted, the id last. It is no secret, and nothing is trusted in it: its
values become conditions like any others, under the tenant's own filter. A seal only tells a client that it has mixed up
two lists. Whoever may sort by a field can read its values here: what nobody may see belongs among the hidden fields.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import bson
from bson import CodecOptions, ObjectId
from bson.errors import BSONError
from bson.int64 import Int64

from hooks.context import Record
from hooks.errors import BadRequest
from hooks.projection import project
from services.base import Page
from services.isolation import ScopedCollection
from services.predicate import TYPES, rank_of
from services.query import MAX_CURSOR, MAX_DEPTH, Position, Query, ancestors
from services.store import Document, Filter, Sort

_CODEC: CodecOptions[Document] = CodecOptions(tz_aware=True, tzinfo=UTC)
_SEAL_BYTES = 8
_NULL = TYPES["null"]
_KINDS = {name: rank for name, rank in TYPES.items() if name not in ("null", "array")}
_LEAST_TEXT_ID = "\0"
_LEAST_OBJECT_ID = ObjectId("0" * 24)
_PLAIN = frozenset({bool, int, Int64, float, str, bytes, ObjectId, datetime})


class Order:
    """One order of one list of records: it makes cursors, and says what lies beyond them."""

    __slots__ = ("_seal", "sort")

    def __init__(self, sort: Sort, *owner: str) -> None:
        """`sort` has the `_id` in it, which decides at last; `owner` names the list, its tenant and all."""
        paths = [path for path, _ in sort]
        self.sort = tuple(sort[: paths.index("_id") + 1])
        self._seal = blake2b(repr((owner, self.sort)).encode(), digest_size=_SEAL_BYTES).digest()

    @property
    def reversed(self) -> Sort:
        """The same order from behind."""
        return tuple((path, -order) for path, order in self.sort)

    def cursor(self, record: Record) -> str:
        """The cursor of a record.

        Raises:
            BadRequest: it has a list where a single value is needed, or values too long for a cursor.
        """
        values = [_value_at(record, path) for path, _ in self.sort]
        encoded = base64.urlsafe_b64encode(self._seal + bson.encode({"v": values})).rstrip(b"=")
        if len(encoded) > MAX_CURSOR:
            raise BadRequest("A record's values are too long for a cursor: sort by shorter fields")
        return encoded.decode()

    def beyond(self, cursor: str, *, forward: bool) -> Filter:
        """The condition for the records behind the cursor's own in this order, or before it.

        Raises:
            BadRequest: it is no cursor, or one of another list or order.
        """
        values = self._values(cursor)
        branches: list[Document] = []
        equal: Document = {}
        for (path, order), value in zip(self.sort, values, strict=True):
            beyond = _greater(path, value) if (order > 0) == forward else _less(path, value)
            branches += [{**equal, path: condition} for condition in beyond]
            equal[path] = {"$eq": value}
        path, order = self.sort[0]
        if path == "_id" or values[0] is None:
            return {"$or": branches}
        # Implied by the rest, and what lets an index begin its reading here: a database does not see it in the branches.
        if (order > 0) == forward:
            return {"$or": branches, "$nor": [{path: {"$lt": values[0]}}], path: {"$ne": None}}
        return {"$or": branches, "$nor": [{path: {"$gt": values[0]}}]}

    def _values(self, cursor: str) -> list[Any]:
        try:
            sealed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
            document = bson.decode(sealed[_SEAL_BYTES:], _CODEC)
        except (BSONError, binascii.Error, ValueError, OverflowError, RecursionError) as error:
            raise BadRequest("This is not a cursor") from error
        if sealed[:_SEAL_BYTES] != self._seal:
            raise BadRequest("This cursor belongs to another list, or to another '$sort'")
        values = document.get("v")
        if not isinstance(values, list) or len(values) != len(self.sort) or not all(map(_is_value, values)):
            raise BadRequest("This is not a cursor")
        if not isinstance(values[-1], (str, ObjectId)):
            raise BadRequest("This is not a cursor")
        return values


async def find_page(collection: ScopedCollection, query: Query, position: Position, order: Order, id: str) -> Page:
    """The page at a position; one record more than asked for tells whether there is another page. `id` is the id's field.

    Raises:
        BadRequest: as the `Order` does.
    """
    limit = query.limit or 0
    cursor, forward = position
    chosen = query.filter if cursor is None else {"$and": [query.filter, order.beyond(cursor, forward=forward)]}
    records: list[Record] = []
    if limit:
        records = await collection.find(
            chosen,
            projection=_projection(query, id, order),
            sort=order.sort if forward else order.reversed,
            skip=query.skip,
            limit=limit + 1,
        )
    more = len(records) > limit
    del records[limit:]
    if not forward:
        records.reverse()
    first, last = (order.cursor(records[0]), order.cursor(records[-1])) if records else (None, None)
    has_next, has_previous = (more, cursor is not None or query.skip > 0) if forward else (True, more)
    if query.select is not None:
        records = [project(record, ("_id", id, *query.select)) for record in records]
    page: Page = {"limit": limit, "skip": query.skip, "data": records}
    if query.total:
        page["total"] = await collection.count(query.filter)
    page["cursor"] = {"next": last if has_next else None, "previous": first if has_previous else None}
    return page


def _projection(query: Query, id: str, order: Order) -> dict[str, int] | None:
    """The selected fields and those that are sorted by; none that lies below another."""
    if query.select is None:
        return None
    names = dict.fromkeys(("_id", id, *query.select, *(path for path, _ in order.sort)), 1)
    return {name: 1 for name in names if names.keys().isdisjoint(ancestors(name))}


def _greater(path: str, value: Any) -> list[Any]:
    """Conditions of which one holds for what sorts behind the value."""
    if path == "_id":
        return [{"$gt": value}] if isinstance(value, ObjectId) else [{"$gt": value}, {"$gte": _LEAST_OBJECT_ID}]
    rank = rank_of(value)
    kinds = [name for name, other in _KINDS.items() if other > rank]
    found: list[Any] = [] if rank == _NULL else [{"$gt": value}]
    return [*found, {"$type": kinds}] if kinds else found


def _less(path: str, value: Any) -> list[Any]:
    """Conditions of which one holds for what sorts before the value: nothing comes before null, or before what is missing."""
    if path == "_id":
        return [{"$lt": value}, {"$gte": _LEAST_TEXT_ID}] if isinstance(value, ObjectId) else [{"$lt": value}]
    rank = rank_of(value)
    if rank == _NULL:
        return []
    kinds = [name for name, other in _KINDS.items() if other < rank]
    found: list[Any] = [{"$lt": value}, {"$eq": None}]
    return [*found, {"$type": kinds}] if kinds else found


def _value_at(record: Mapping[str, Any], path: str) -> Any:
    value: Any = record
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
        if isinstance(value, list):
            raise BadRequest(f"'{path}' holds a list: pages by cursor are sorted by single values")
    return value


def _is_value(value: Any, depth: int = 0) -> bool:
    """Whether a record can hold this; a cursor can be made up."""
    if isinstance(value, dict):
        return depth < MAX_DEPTH and all(_is_value(child, depth + 1) for child in value.values())
    if isinstance(value, list):
        return 0 < depth < MAX_DEPTH and all(_is_value(child, depth + 1) for child in value)
    return value is None or type(value) in _PLAIN
