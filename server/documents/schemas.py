"""JSON Schemas of records and data, shared by the documents that are written in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hooks.tenancy import FIELD
from server.wire import FORBIDDEN_KEYS, MAX_KEY
from services.description import MethodDescription, ServiceDescription, Shape

Json = dict[str, Any]

_LARGEST = 2**63 - 1024
"""The largest number below 2^63 that a double holds exactly: beyond it, integers are refused."""
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
        {"type": "number", "minimum": -_LARGEST, "maximum": _LARGEST},
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
    """A record as it leaves. Only its ids are sure to be there: `$select` leaves out the rest."""
    shape = service.record
    required = shape.required if service.kind == "login" else [name for name in shape.required if name in _ids(service)]
    schema: Json = {"type": "object", "properties": dict(shape.properties)}
    if required:
        schema["required"] = [*required]
    return schema


def data(service: ServiceDescription) -> Json:
    """What `create` takes."""
    return taken(service.data)


def replacement(service: ServiceDescription) -> Json:
    """What `update` takes: an id in it is ignored, and what is kept when it is missing need not be there."""
    shape = service.data
    kept = {name for name, schema in shape.properties.items() if schema.get("writeOnly")}
    return taken(_with(shape, tuple(name for name in shape.required if name not in kept)))


def part(service: ServiceDescription) -> Json:
    """What `patch` takes: any part of the data."""
    return taken(_with(service.data, ()))


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
            bound["minimum"] = -_LARGEST
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


def _ids(service: ServiceDescription) -> tuple[str, ...]:
    return ("_id", service.id)


def _with(shape: Shape, required: tuple[str, ...]) -> Shape:
    return Shape(shape.properties, required, shape.is_open, shape.refused)
