"""Validates data by a declared schema: JSON Schema properties, with `required: true` allowed beside each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jsonschema_rs

from hooks.context import HookContext
from hooks.errors import BadRequest
from hooks.tenancy import FIELD

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class Schema:
    """A compiled record schema: one validator for whole records, one for the partial data of a patch."""

    __slots__ = ("_part", "_whole", "properties")

    def __init__(self, declared: Mapping[str, Any]) -> None:
        """`declared` is `{field: {type, required?, ...}}`; the key `additionalProperties: false` refuses other fields.

        Raises:
            ValueError: it is no valid schema; the message says where.
        """
        properties = {name: _field(name, entry) for name, entry in declared.items() if name != "additionalProperties"}
        self.properties: dict[str, Any] = {name: entry for name, (entry, _) in properties.items()}
        required = [name for name, (_, is_required) in properties.items() if is_required]
        extra = declared.get("additionalProperties", True)
        if not isinstance(extra, bool):
            raise ValueError("additionalProperties: must be true or false")
        schema = {"$schema": DIALECT, "type": "object", "properties": self.properties, "additionalProperties": extra}
        try:
            self._part = jsonschema_rs.validator_for(schema, validate_formats=True)
            self._whole = jsonschema_rs.validator_for({**schema, "required": required}, validate_formats=True)
        except (jsonschema_rs.ValidationError, ValueError) as error:
            raise ValueError(_reason(error)) from error

    def check(self, record: Mapping[str, Any], *, whole: bool) -> list[dict[str, str]]:
        """The faults of a record as `{path, message}`, none if it is valid. A patch is not `whole`."""
        validator = self._whole if whole else self._part
        own = {key: value for key, value in record.items() if key not in _SERVER_FIELDS}
        if validator.is_valid(own):
            return []
        return [
            {"path": "/" + "/".join(map(str, error.instance_path)), "message": error.message}
            for error in validator.iter_errors(own)
        ]


_SERVER_FIELDS = frozenset({"_id", FIELD})


def validate_data(schema: Schema) -> Any:
    """A before hook for create, update and patch.

    Raises:
        BadRequest: `validation failed`, with a list of `{path, message}` in `data` and `errors`.
    """

    def validate(context: HookContext) -> None:
        whole = context.method != "patch"
        data = context.data
        faults: list[dict[str, str]] = []
        if isinstance(data, Mapping):
            faults = schema.check(data, whole=whole)
        elif isinstance(data, Sequence) and not isinstance(data, str):
            for index, item in enumerate(data):
                if isinstance(item, Mapping):
                    found = schema.check(item, whole=whole)
                    faults += [{**fault, "path": f"/{index}{fault['path']}"} for fault in found]
        if faults:
            raise BadRequest("validation failed", data=faults, errors=faults)

    return validate


def _field(name: str, entry: Any) -> tuple[dict[str, Any], bool]:
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
