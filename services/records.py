"""Records and their ids, as clients give them and as they find them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bson import ObjectId

from hooks.context import Record
from hooks.errors import BadRequest, NotFound
from services.isolation import MAX_ID, invalid_id
from services.query import Query
from services.store import Document


def to_update(changes: Record) -> Document:
    """The update operators for a patch without any: plain fields are set."""
    return {"$set": changes} if changes else {}


def without(record: Record, fields: frozenset[str]) -> Record:
    """The record, from which these fields are taken."""
    for field in fields:
        record.pop(field, None)
    return record


def plain_object(data: Any) -> Record:
    """What changes a record, its update operators included.

    Raises:
        BadRequest: it is no object.
    """
    if not isinstance(data, dict):
        raise BadRequest("The data must be an object")
    record: Record = data
    return record


def checked(data: Any) -> Record:
    """What becomes a record.

    Raises:
        BadRequest: it is no object, or has a key such as operators have.
    """
    record = plain_object(data)
    for key in record:
        if key[:1] == "$":
            raise BadRequest(f"Invalid key '{key[:MAX_ID]}': keys may not begin with '$'")
    return record


def check_custom_id(id: Any) -> None:
    """An id in a field of its own is text, a number or an ObjectId.

    Raises:
        BadRequest: it is something else.
    """
    kind = type(id)
    if not (kind is str and 0 < len(id) <= MAX_ID) and kind is not int and kind is not float and kind is not ObjectId:
        raise invalid_id(id)


def present(record: Record | None, id: Any) -> Record:
    """The record that was looked for by its id.

    Raises:
        NotFound: there is none.
    """
    if record is None:
        raise NotFound(f"No record found for id '{id}'")
    return record


def stable(query: Query) -> Sequence[tuple[str, int]]:
    """The order, with the id to decide between equals: pages neither repeat nor miss records.

    The id goes the way of the last field, so that one index serves both directions.
    """
    if not query.sort or any(path == "_id" for path, _ in query.sort):
        return query.sort
    return (*query.sort, ("_id", query.sort[-1][1]))
