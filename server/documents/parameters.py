"""The query parameters of a service's REST calls: filters by field, and what shapes the answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from server.documents.schemas import Json, bounded
from services.description import ServiceDescription
from services.query import MAX_PREFIX, MAX_SELECT, MAX_SKIP, MAX_SORT, MAX_WORDS

_SCALARS = ("string", "number", "integer", "boolean")
_ORDERED = ("$gt", "$gte", "$lt", "$lte")
_NAME = {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9]{0,30}$"}


_CURSOR_PARAMETERS: tuple[Json, ...] = (
    {
        "name": "$total",
        "in": "query",
        "schema": {"type": "boolean", "default": True},
        "description": "`false` spares the count, and the page has no `total`.",
    },
    {
        "name": "$cursor",
        "in": "query",
        "schema": {"type": "boolean", "default": False},
        "description": "`true` gives the page a `cursor: {next, previous}`. The next page is `$after=<next>`, with the "
        "same `$sort` and without `$skip`; the previous one is `$before=<previous>`.",
    },
)


def path_parameters(service: ServiceDescription) -> list[Json]:
    """The placeholders of the service's path."""
    names = [part[1:] for part in service.path.split("/") if part.startswith(":")]
    schema = {"type": "string", "minLength": 1}
    return [{"name": name, "in": "path", "required": True, "schema": schema} for name in names]


def find_parameters(service: ServiceDescription) -> Iterator[Json]:
    """All that `find` takes."""
    if not service.takes_queries:
        return
    page = service.paginate
    limit: Json = {"type": "integer", "minimum": 0}
    if page is not None:
        limit["default"] = page.default
        most = f"Records in the page; {page.max} at most, however many are asked for. 0 only counts."
    else:
        most = "Records in the answer."
    yield {"name": "$limit", "in": "query", "schema": limit, "description": most}
    skip = {"type": "integer", "minimum": 0, "maximum": MAX_SKIP, "default": 0}
    yield {"name": "$skip", "in": "query", "schema": skip, "description": "Records to leave out at the beginning."}
    yield _sort_parameter(service)
    if service.has_cursors:
        yield from _CURSOR_PARAMETERS
    if service.is_searchable:
        words = {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_WORDS,
            "pattern": r"^[^\u0000]*[^\s\u0000][^\u0000]*$",
        }
        yield {"name": "$search", "in": "query", "schema": words, "description": "Words that the record contains."}
    yield from record_parameters(service)


def record_parameters(service: ServiceDescription) -> Iterator[Json]:
    """What restricts a call to matching records, and `$select`."""
    if not service.takes_queries:
        return
    yield select_parameter(service)
    yield from _filters(service)


def select_parameter(service: ServiceDescription) -> Json:
    """`$select=a&$select=b`."""
    items = {"enum": [*service.record.properties]} if not service.record.is_open else _NAME
    return {
        "name": "$select",
        "in": "query",
        "style": "form",
        "explode": True,
        "schema": {"type": "array", "items": items, "maxItems": MAX_SELECT},
        "description": "The fields of the answer. Ids are always in it.",
    }


def _sort_parameter(service: ServiceDescription) -> Json:
    order = {"type": "integer", "enum": [1, -1]}
    schema: Json = {"type": "object", "maxProperties": MAX_SORT}
    schema["properties"] = dict.fromkeys(service.record.properties, order)
    if service.record.is_open:
        schema["additionalProperties"] = order
        schema["propertyNames"] = _NAME
    else:
        schema["additionalProperties"] = False
    return {
        "name": "$sort",
        "in": "query",
        "style": "deepObject",
        "explode": True,
        "schema": schema,
        "description": "The order by fields: 1 upwards, -1 downwards, as in `$sort[name]=1`.",
    }


def _filters(service: ServiceDescription) -> Iterator[Json]:
    """`field=value`, or `field[$gt]=value` for each operator that makes sense."""
    for field, declared in service.record.properties.items():
        value = dict(declared) if field == "_id" else _comparable(declared)
        if value is not None:
            yield {
                "name": field,
                "in": "query",
                "style": "deepObject",
                "explode": True,
                "schema": {"anyOf": [value, _conditions(value, service.operators)]},
                "description": f"The value of `{field}`, or conditions such as `{field}[$ne]=…`. "
                f"Several values are `{field}[$in][]=…&{field}[$in][]=…`.",
            }
    if service.record.is_open:
        yield {
            "name": "field",
            "in": "query",
            "style": "form",
            "explode": True,
            "schema": {"type": "object", "propertyNames": _NAME, "additionalProperties": {"type": "string"}},
            "description": "Any other field by its own name.",
        }


def _conditions(value: Json, operators: Iterable[str]) -> Json:
    properties: Json = {}
    for operator in operators:
        if operator == "$exists":
            properties[operator] = {"type": "boolean"}
        elif operator == "$startsWith" and value["type"] == "string":
            properties[operator] = {"type": "string", "minLength": 1, "maxLength": MAX_PREFIX}
        elif operator == "$ne" or (operator in _ORDERED and value["type"] != "boolean"):
            properties[operator] = value
    return {"type": "object", "properties": properties, "additionalProperties": False, "minProperties": 1}


def _comparable(declared: Mapping[str, Any]) -> Json | None:
    """The schema of a value to compare a field with; None for what a query string does not bring."""
    kinds = declared.get("type", ())
    kinds = [kinds] if isinstance(kinds, str) else [kind for kind in kinds if kind != "null"]
    if kinds == ["array"]:
        items = declared.get("items", {})
        return _comparable(items) if isinstance(items, Mapping) else None
    for kind in _SCALARS:
        if kind in kinds:
            comparable: Json = bounded({"type": kind})
            return comparable
    return None
