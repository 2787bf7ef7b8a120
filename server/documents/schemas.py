"""JSON Schemas of records and data, shared by the documents that are written in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hooks.tenancy import FIELD
from server.wire import FORBIDDEN_KEYS, MAX_KEY
from services.description import MethodDescription, ServiceDescription
from services.shape import Shape

Json = dict[str, Any]

_LEAST, _LARGEST = -(2**63), 2**63 - 1
"""Between these, integers are taken."""
_FORBIDDEN = "|".join(sorted(key for key in FORBIDDEN_KEYS if key and not key.startswith("__")))

KEY: Json = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_KEY,
    "pattern": rf"^(?!({_FORBIDDEN}|{FIELD})$)(?!__.*__$)[^$.\u0000][^.\u0000]*$",
    "description": "A field's name: without dots, not beginning with `$`, and none that the server keeps for itself.",
}
VALUE: Json = {
    "description": "Any JSON value whose keys are all allowed as field names.",
    "anyOf": [
        {"type": ["null", "boolean", "string"]},
        {"type": "number", "minimum": _LEAST, "maximum": _LARGEST},
        {"type": "array", "items": {"$ref": "#/components/schemas/Value"}},
        {
            "type": "object",
            "propertyNames": {"$ref": "#/components/schemas/Key"},
            "additionalProperties": {"$ref": "#/components/schemas/Value"},
        },
    ],
}
_VALUE_REFERENCE: Json = {"$ref": "#/components/schemas/Value"}
_KEY_REFERENCE: Json = {"$ref": "#/components/schemas/Key"}


def record(service: ServiceDescription) -> Json:
    """A record as it leaves. Only its id is sure to be there: `$select` leaves out the rest."""
    shape = service.record
    required = [name for name in shape.required if name == service.id or service.kind == "login"]
    schema: Json = {"type": "object", "properties": dict(shape.properties)}
    if required:
        schema["required"] = required
    return schema


def data(service: ServiceDescription) -> Json:
    """What `create` takes."""
    return taken(service.data)


def replacement(service: ServiceDescription) -> Json:
    """What `update` takes; what is kept when it is missing need not be there."""
    shape = service.data
    kept = {name for name, schema in shape.properties.items() if schema.get("writeOnly")}
    return taken(_without_ids(service, tuple(name for name in shape.required if name not in kept)))


def part(service: ServiceDescription) -> Json:
    """What `patch` takes: any part of the data, and the update operators that the service offers."""
    schema = taken(_without_ids(service, ()))
    if service.updates:
        changes = {"type": "object", "description": "By field or dotted path."}
        schema["properties"] |= dict.fromkeys(service.updates, changes)
        if "propertyNames" in schema:
            schema["propertyNames"] = {"anyOf": [schema["propertyNames"], {"enum": [*service.updates]}]}
    return schema


def page(service: ServiceDescription, record: Json) -> Json:
    """What `find` answers where there are pages. Without a count there is no total."""
    count = {"type": "integer", "minimum": 0}
    properties: Json = {
        "total": {**count, "description": "How many records match, all pages together."},
        "limit": {**count, "description": "The limit that was used."},
        "skip": count,
        "data": {"type": "array", "items": record},
    }
    required = ["total", "limit", "skip", "data"]
    if service.has_cursors:
        neighbour = {"type": ["string", "null"]}
        cursors = {"type": "object", "properties": {"next": neighbour, "previous": neighbour}}
        properties["cursor"] = {**cursors, "description": "For `$after` and `$before`; null where there is no more."}
        required = ["limit", "skip", "data"]
    return {"type": "object", "required": required, "properties": properties}


def taken(shape: Shape) -> Json:
    """An object on its way in, with the bounds that hold for every key and number."""
    schema: Json = {"type": "object", "properties": {key: bounded(value) for key, value in shape.properties.items()}}
    if shape.required:
        schema["required"] = [*shape.required]
    if not shape.is_open:
        schema["additionalProperties"] = False
        return schema
    schema["additionalProperties"] = _VALUE_REFERENCE
    schema["propertyNames"] = _KEY_REFERENCE
    if shape.refused:
        schema["propertyNames"] = {"allOf": [_KEY_REFERENCE, {"not": {"enum": sorted(shape.refused)}}]}
    return schema


def bounded(schema: Any) -> Any:
    """A field's schema with what the server allows of any value: numbers of 64 bits, keys that are names."""
    if not isinstance(schema, Mapping):
        return schema
    if not schema or schema.keys() <= _NOTES:
        return {**_VALUE_REFERENCE, **schema}
    bound: Json = dict(schema)
    types = schema.get("type", ())
    types = {types} if isinstance(types, str) else set(types)
    if types & {"number", "integer"}:
        if not schema.keys() & {"minimum", "exclusiveMinimum"}:
            bound["minimum"] = _LEAST
        if not schema.keys() & {"maximum", "exclusiveMaximum"}:
            bound["maximum"] = _LARGEST
    if "object" in types:
        bound["properties"] = {key: bounded(value) for key, value in schema.get("properties", {}).items()}
        bound["additionalProperties"] = bounded(schema.get("additionalProperties", {}))
        bound.setdefault("propertyNames", _KEY_REFERENCE)
    if "array" in types:
        bound["items"] = bounded(schema.get("items", {}))
    return bound


def many(method: MethodDescription | None) -> bool:
    """Whether the method is there and takes many records."""
    return method is not None and method.is_multi


_NOTES = frozenset({"description", "title", "examples", "default", "deprecated"})


def _without_ids(service: ServiceDescription, required: tuple[str, ...]) -> Shape:
    shape = service.data
    ids = {"_id", service.id} & shape.properties.keys()
    properties = {**shape.properties, **dict.fromkeys(ids, _IGNORED_ID)}
    return Shape(properties, required, shape.is_open, shape.refused)


_IGNORED_ID: Json = {"description": "Ignored: the id stays."}
