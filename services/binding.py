"""Binding: how a record of a tenant is written in the store, and what a filter says there; see `services/isolation.py`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import structlog
from bson import ObjectId

from hooks.context import Record
from hooks.errors import BadRequest, GeneralError
from hooks.tenancy import FIELD
from services import search
from services.store import Document, Filter

log = structlog.get_logger()

MAX_ID = 256

_HEX_ID = re.compile(r"[0-9a-fA-F]{24}")
_GUARDED = frozenset({"_id", FIELD, search.FIELD})
_MINIMUM_ID = ObjectId("0" * 24)


def scope(filter: Filter, tenant_id: str) -> Document:
    """The mandatory filter around any other: the tenant's bound id when one is asked for, else `app_id`.

    It is added last, so that nothing in `filter` can undo it.
    """
    bound = _bind(filter, tenant_id)
    condition = bound.get("_id")
    if condition is None or condition.get("a") != tenant_id or "$text" in bound:
        bound[FIELD] = tenant_id
    return bound


def normalise_id(value: Any) -> ObjectId | str:
    """An id as it is stored: 24 hex digits are an ObjectId, an integer its digits, other text is itself.

    Raises:
        BadRequest: anything else.
    """
    kind = type(value)
    if kind is str:
        if len(value) == 24 and _HEX_ID.fullmatch(value):
            return ObjectId(value)
        if value and len(value) <= MAX_ID and (value.isascii() or _is_text(value)):
            text: str = value
            return text
    elif kind is ObjectId:
        given: ObjectId = value
        return given
    elif (kind is int or (kind is float and value.is_integer())) and -(2**63) <= value < 2**63:
        return str(int(value))
    raise invalid_id(value)


def invalid_id(value: object) -> BadRequest:
    """The error for what is no id."""
    return BadRequest(f"Invalid id '{json.dumps(value, default=str, separators=(',', ':'))[:MAX_ID]}'")


def bind_id(value: Any, tenant_id: str) -> Document:
    """An id as the tenant's own: `a` stands before `i`, which fixes its place in the index."""
    return {"a": tenant_id, "i": normalise_id(value)}


def strip(record: Mapping[str, Any], tenant_id: str) -> Record:
    """A copy of a record without its `app_id`.

    Raises:
        BadRequest: it is another tenant's.
    """
    copy = {**record}
    if copy.pop(FIELD, tenant_id) != tenant_id:
        raise _foreign()
    return copy


def to_store(record: Mapping[str, Any], tenant_id: str) -> Document:
    """A record as it is stored."""
    if record.get(FIELD, tenant_id) != tenant_id:
        raise _foreign()
    given = record.get("_id")
    stamp = {"_id": bind_id(ObjectId() if given is None else given, tenant_id), FIELD: tenant_id}
    return {**stamp, **record, **stamp}


def from_store(document: Document, tenant_id: str) -> Record:
    """A stored document, turned in place into the record it holds.

    Raises:
        GeneralError: it is another tenant's: a guard below or the connection to the database has failed.
    """
    bound = document["_id"]
    if bound["a"] != tenant_id:
        log.error("the database answered with a record of another tenant", tenant=tenant_id)
        raise GeneralError
    document["_id"] = bound["i"]
    document.pop(FIELD, None)
    document.pop(search.FIELD, None)
    return document


def check_update(update: Mapping[str, Any]) -> None:
    """Refuses an update that is a pipeline or a replacement, or that could touch what binds a record to its tenant.

    Raises:
        BadRequest: see above.
    """
    if type(update) is not dict and not isinstance(update, Mapping):
        raise BadRequest("An update must be an object of update operators")
    for operator, changes in update.items():
        if operator[:1] != "$" or (type(changes) is not dict and not isinstance(changes, Mapping)):
            raise BadRequest("An update must be an object of update operators")
        for path, value in changes.items():
            _check_changed(path)
            if operator == "$rename":
                _check_changed(value)


def _check_changed(path: object) -> None:
    name = path.partition(".")[0] if isinstance(path, str) else "_id"
    if name in _GUARDED:
        raise BadRequest(f"'{name}' cannot be changed")


def _bind(filter: Filter, tenant_id: str) -> Document:
    """The filter with bound ids and without `app_id`, which is the tenant's own or refused; `$and`s are merged."""
    bound: Document = {}
    parts: list[Document] = []
    for key, value in filter.items():
        if key == "$and":
            parts += [_bind(branch, tenant_id) for branch in value]
        elif key == "_id":
            parts += _bind_condition(value, tenant_id)
        elif key == FIELD:
            if value != tenant_id:
                raise _foreign()
        elif key in {"$or", "$nor"}:
            bound[key] = [_bind(branch, tenant_id) for branch in value]
        elif key[:1] == "$" or key.partition(".")[0] in _GUARDED:
            bound["$text"] = _words(key, value)
        else:
            bound[key] = value
    rest: list[Document] = []
    for part in parts:
        if bound.keys().isdisjoint(part):
            bound.update(part)
        else:
            rest.append(part)
    if rest:
        bound["$and"] = [*bound.get("$and", ()), *rest]
    return bound


def _words(key: str, value: Any) -> Document:
    if key != "$search":
        raise BadRequest(f"Invalid query parameter {key}")
    return {"$search": value, "$language": search.LANGUAGE}


def _bind_condition(value: Any, tenant_id: str) -> list[Document]:
    """Conditions on the bound `_id` that say what `value` says of the plain one."""
    if type(value) is ObjectId or not isinstance(value, Mapping):
        return [{"_id": bind_id(value, tenant_id)}]
    if not value:
        raise invalid_id(value)
    return [_bind_operator(operator, operand, tenant_id) for operator, operand in value.items()]


def _bind_operator(operator: str, operand: Any, tenant_id: str) -> Document:
    if operator in {"$in", "$nin"}:
        return {"_id": {operator: [bind_id(item, tenant_id) for item in operand]}}
    if operator == "$ne":
        return {"_id": {operator: bind_id(operand, tenant_id)}}
    if operator in ("$gt", "$gte", "$lt", "$lte"):
        bound = bind_id(operand, tenant_id)
        least, beyond = ("", {}) if isinstance(bound["i"], str) else (_MINIMUM_ID, False)
        # Plain values compare within their own kind only; the bounds of the kind do the same for bound ones.
        other = {"$lt": {"a": tenant_id, "i": beyond}} if operator[1] == "g" else {"$gte": {"a": tenant_id, "i": least}}
        return {"_id": {operator: bound, **other}}
    if operator == "$exists":
        return {"_id": {operator: operand}}
    if operator == "$regex":
        return {"_id.i": {operator: operand}}
    raise invalid_id({operator: operand}) if operator[:1] != "$" else BadRequest(f"Invalid query parameter {operator}")


def _foreign() -> BadRequest:
    return BadRequest(f"'{FIELD}' is set by the server and cannot be sent")


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
