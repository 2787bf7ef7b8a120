"""Validates data and queries: by a declared schema (JSON Schema, `required: true` beside each property) or a pydantic model."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from itertools import islice
from typing import Any

import jsonschema_rs
from bson import ObjectId
from pydantic import BaseModel

from hooks.context import HookContext
from hooks.fields import KEYWORD, Field, as_json_schema, convert_query, field_at, query_to_ids, read_fields, to_ids
from hooks.models import Model
from hooks.operations import is_operation, read_operations
from hooks.shape import MAX_FAULTS, Fault, Shape, failed
from hooks.tenancy import FIELD

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MAX_MESSAGE = 300


class Schema:
    """A compiled record schema: one validator for whole records, one for the partial data of a patch."""

    __slots__ = ("_is_open", "_part", "_required", "_whole", "fields", "has_ids", "properties")

    def __init__(self, declared: Mapping[str, Any]) -> None:
        """`declared` is `{field: {type, required?, ...}}`; the key `additionalProperties: false` refuses other fields.

        Beside JSON Schema's keywords there is `objectid: true`, for a field that holds the id of another record.

        Raises:
            ValueError: it is no valid schema; the message says where.
        """
        entries = {name: _entry(name, entry) for name, entry in declared.items() if name != "additionalProperties"}
        self.properties: dict[str, Any] = {name: entry for name, (entry, _) in entries.items()}
        self.fields = read_fields(self.properties)
        self.has_ids = any(field.has_ids for field in self.fields.values())
        required = [name for name, (_, is_required) in entries.items() if is_required]
        self._required = frozenset(required)
        extra = declared.get("additionalProperties", True)
        if not isinstance(extra, bool):
            raise ValueError("additionalProperties: must be true or false")
        self._is_open = extra
        plain = {name: as_json_schema(entry) for name, entry in self.properties.items()}
        schema = {"$schema": DIALECT, "type": "object", "properties": plain, "additionalProperties": extra}
        try:
            self._part = jsonschema_rs.validator_for(schema, validate_formats=True)
            self._whole = (
                jsonschema_rs.validator_for({**schema, "required": required}, validate_formats=True)
                if required
                else self._part
            )
        except (jsonschema_rs.ValidationError, ValueError) as error:
            raise ValueError(_reason(error)) from error

    def check(self, record: Mapping[str, Any], *, whole: bool) -> list[Fault]:
        """The faults of a record as `{path, message}`, none if it is valid. A patch is not `whole`."""
        validator = self._whole if whole else self._part
        own = {key: value for key, value in record.items() if key not in _SERVER_FIELDS}
        try:
            return [] if validator.is_valid(own) else _faults(validator, own)
        except ValueError:
            # The server's own calls bring values that JSON has no word for.
            own = _as_json(own)
            return [] if validator.is_valid(own) else _faults(validator, own)

    def read(self, record: Any, *, whole: bool) -> tuple[Any, list[Fault]]:
        """See `Shape`."""
        if type(record) is not dict and not isinstance(record, Mapping):
            return record, [{"path": "/", "message": "must be an object"}]
        faults = self.check(record, whole=whole)
        if faults or not self.has_ids:
            return record, faults
        fields = self.fields
        return {key: to_ids(value, fields[key]) if key in fields else value for key, value in record.items()}, faults

    def read_query(self, query: Any) -> tuple[Any, list[Fault]]:
        """See `Shape`. Fields that are not declared stay as they are."""
        faults: list[Fault] = []

        def convert(place: str, value: Any, field: Field) -> Any:
            if isinstance(value, list):
                return [convert(f"{place}/{index}", item, field) for index, item in enumerate(value)]
            try:
                return _typed(value, field.compared)
            except ValueError as error:
                faults.append({"path": place, "message": str(error)})
                return value

        return convert_query(query, lambda path: field_at(self.fields, path), convert), faults

    def is_plain(self, path: str) -> bool:
        """See `Shape`."""
        root, dot, _ = path.partition(".")
        entry = self.properties.get(root)
        if entry is None:
            return not dot or self._is_open
        return not dot and entry.keys() <= _TELLING_TYPES

    def requires(self, name: str) -> bool:
        """See `Shape`."""
        return name in self._required

    def convert(self, path: str, value: Any) -> Any:
        """See `Shape`."""
        field = field_at(self.fields, path)
        return value if field is None else to_ids(value, field if isinstance(value, list) else field.compared)


_SERVER_FIELDS = frozenset({"_id", FIELD})
_TELLING_TYPES = frozenset(
    {"type", "items", KEYWORD, "title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"}
)
"""Keywords of a field that say nothing of its value but the type, and of a list nothing but the items."""


def validate_data(
    shape: Schema | type[BaseModel] | Mapping[str, Schema | type[BaseModel]],
) -> Callable[[HookContext], None]:
    """A before hook for methods with data: by one schema or model for all, or by `{create, patch, update}`.

    A patch is checked in the fields that it has, and with update operators in what these make of them. A model replaces
    the data by its own view of it; what it has for fields that were not sent is added on create and update alone.
    Methods that a mapping does not name are let through.

    Raises:
        BadRequest: `validation failed`, with a list of `{path, message}` in `data` and `errors`.
    """
    by_method = {name: _shape(one) for name, one in shape.items()} if isinstance(shape, Mapping) else {}
    for_all = None if isinstance(shape, Mapping) else _shape(shape)

    def validate(context: HookContext) -> None:
        method = context.method
        chosen = by_method.get(method, for_all)
        if chosen is None or method in _WITHOUT_DATA:
            return
        data = context.data
        whole = method != "patch"
        if not whole and is_operation(data):
            context.data, context.params.verify = read_operations(chosen, data)
            return
        if isinstance(data, list):
            faults: list[Fault] = []
            records = []
            for index, item in enumerate(data):
                record, found = chosen.read(item, whole=whole)
                faults += [{**fault, "path": f"/{index}{fault['path']}".rstrip("/")} for fault in found]
                records.append(record)
                if len(faults) >= MAX_FAULTS:
                    break
            data = records
        else:
            data, faults = chosen.read(data, whole=whole)
        if faults:
            raise failed(faults)
        context.data = data

    return validate


def validate_query(shape: Schema | type[BaseModel]) -> Callable[[HookContext], None]:
    """A before hook: gives each value that is compared with a known field that field's type, at any depth.

    So texts from query strings become numbers, booleans, ids or dates. An empty text is the null that a query string
    cannot say, unless the field holds texts. Nothing is added; unknown fields stay as they are.

    Raises:
        BadRequest: `validation failed`, for values that have no form of the type.
    """
    chosen = _shape(shape)

    def validate(context: HookContext) -> None:
        query, faults = chosen.read_query(context.params.query)
        if faults:
            raise failed([{**fault, "path": _as_sent(fault["path"], query)} for fault in faults])
        context.params.query = query

    return validate


def convert_ids(schema: Schema) -> Callable[[HookContext], None]:
    """A before hook: queries by fields that hold ids may name them as hex text, at any depth."""

    def convert(context: HookContext) -> None:
        context.params.query = query_to_ids(context.params.query, schema.fields)

    return convert


_WITHOUT_DATA = frozenset({"find", "get", "remove"})
_NUMBER = re.compile(r"[+-]?([0-9]{1,30}(\.[0-9]{0,30})?|\.[0-9]{1,30})([eE][+-]?[0-9]{1,3})?")
_FORCED = re.compile(r"^/\$and/[0-9]+")
_BOOLEANS: Mapping[str, bool] = {"true": True, "false": False}


def _shape(shape: Schema | type[BaseModel]) -> Shape:
    if isinstance(shape, Schema):
        return shape
    if isinstance(shape, type) and issubclass(shape, BaseModel):
        return Model(shape)
    raise TypeError(f"A schema or a pydantic model is needed, not {shape!r}")


def _typed(value: Any, field: Field) -> Any:
    """A single value as one of the field's types.

    Raises:
        ValueError: it is none of them.
    """
    types = field.types
    if isinstance(value, str) and field.is_id:
        return to_ids(value, field)
    if not types or value is None or isinstance(value, (dict, list)):
        return value
    if isinstance(value, str):
        return value if "string" in types else _from_text(value, types)
    if isinstance(value, bool):
        fits = "boolean" in types
    elif isinstance(value, (int, float)):
        fits = "number" in types or "integer" in types
    else:
        fits = isinstance(value, (ObjectId, datetime)) and "string" in types
    if not fits:
        raise ValueError(_expected(types))
    return value


def _from_text(text: str, types: frozenset[str]) -> Any:
    if not text:
        return None
    if ("number" in types or "integer" in types) and _NUMBER.fullmatch(text):
        number = int(text) if text.lstrip("+-").isdecimal() else float(text)
        if isinstance(number, float) and number.is_integer():
            number = int(number)
        if -(2**63) <= number < 2**63:
            return number
        if math.isfinite(float(number)):
            # Beyond 64 bits a database has floating point numbers alone.
            return float(number)
    if "boolean" in types and text in _BOOLEANS:
        return _BOOLEANS[text]
    raise ValueError(_expected(types))


def _as_sent(place: str, query: Any) -> str:
    """A place in the client's own query: without the condition that the tenancy hook has put around it."""
    forced = query.get("$and")
    if isinstance(forced, list) and forced and isinstance(forced[0], Mapping) and FIELD in forced[0]:
        return _FORCED.sub("", place)
    return place


def _expected(types: frozenset[str]) -> str:
    return f"must be {' or '.join(sorted(types))}"


def _as_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _as_json(child) for key, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(child) for child in value]
    if isinstance(value, datetime):
        return value.isoformat() if value.tzinfo else f"{value.isoformat()}Z"
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


def _faults(validator: Any, record: Mapping[str, Any]) -> list[Fault]:
    return [
        {"path": "/" + "/".join(map(str, error.instance_path)), "message": error.message[:MAX_MESSAGE]}
        for error in islice(validator.iter_errors(record), MAX_FAULTS)
    ]


def _entry(name: str, entry: Any) -> tuple[dict[str, Any], bool]:
    if not isinstance(entry, Mapping):
        raise ValueError(f"{name}: must be a schema such as {{type: string}}")
    required = entry.get("required", False)
    if isinstance(required, bool):
        return {key: value for key, value in entry.items() if key != "required"}, required
    return dict(entry), False


def _reason(error: Exception) -> str:
    path = getattr(error, "instance_path", None)
    message = getattr(error, "message", None) or str(error)
    where = ".".join(str(part) for part in path if part != "properties") if path else ""
    return f"{where}: {message}" if where else str(message)
