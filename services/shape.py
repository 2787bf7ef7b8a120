"""The shapes of what services take and return, with JSON Schemas that anybody may read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hooks.fields import as_json_schema
from hooks.tenant import Tenant
from services.authentication.names import LONGEST as LONGEST_NAME
from services.channels import MAX_ROOM
from services.isolation import MAX_ID
from services.mail.addresses import LONGEST as LONGEST_ADDRESS
from services.mongo import ServiceOptions
from services.users import GUARDED, HIDDEN

JsonSchema = Mapping[str, Any]

_REFERENCES = frozenset({"$ref", "$dynamicRef"})
_LOCAL_KEYWORDS = frozenset({"$schema", "$id", "$anchor", "$dynamicAnchor", "$defs", "$vocabulary"})


@dataclass(frozen=True, slots=True)
class Shape:
    """An object: a JSON Schema for each known field, which of them must be there, and whether others may be."""

    properties: Mapping[str, JsonSchema]
    required: tuple[str, ...] = ()
    is_open: bool = True
    refused: frozenset[str] = frozenset()
    """Fields that an open shape does not take all the same; hidden ones are not named here."""


def shapes_of(service: object, declared: Mapping[str, Any] | None, id: str) -> tuple[Shape, Shape]:
    """What leaves a service and what `create` takes, by the tenant's declaration or by what the service says of itself.

    Code says it in the form of the declarative file: `schema` for its records, `data_schema` where data is something else.
    Without either, records and data are any objects.
    """
    found = getattr(service, "options", None)
    options = found if isinstance(found, ServiceOptions) else None
    hidden = options.hidden if options else frozenset[str]()
    readonly = frozenset[str](getattr(service, "readonly", ()))
    own = _schema(service, "schema")
    shown, required, is_open = _read(own if declared is None else declared, hidden)
    taken, needed, takes_more = _read(_schema(service, "data_schema"), hidden) if declared is None else _NOTHING
    if not taken and takes_more:
        taken, needed, takes_more = shown, required, is_open
    ids: dict[str, JsonSchema] = {}
    given: dict[str, JsonSchema] = {}
    if options:
        ids = {"_id": _TEXT_ID, id: _TEXT_ID if id == "_id" else shown.get(id, _OWN_ID)}
        given = {"_id": _GIVEN_ID, **({id: ids[id]} if takes_more and id != "_id" else {})}
    marked = {name: {**entry, "readOnly": True} if name in readonly else entry for name, entry in shown.items()}
    writable = {name: entry for name, entry in taken.items() if name not in readonly}
    given = {name: entry for name, entry in given.items() if name not in readonly}
    return (
        Shape({**ids, **marked}, tuple(dict.fromkeys((*ids, *required))), is_open),
        Shape({**given, **writable}, tuple(name for name in needed if name not in readonly), takes_more, readonly),
    )


_Fields = tuple[dict[str, JsonSchema], tuple[str, ...], bool]
_NOTHING: _Fields = ({}, (), True)


def _schema(service: object, name: str) -> Mapping[str, Any]:
    found = getattr(service, name, None)
    return found if isinstance(found, Mapping) else {}


def _read(declared: Mapping[str, Any], hidden: frozenset[str]) -> _Fields:
    """The fields of a declared schema, which of them are required, and whether others are allowed."""
    fields: dict[str, JsonSchema] = {}
    required: list[str] = []
    for name, entry in declared.items():
        if name == "additionalProperties" or name in hidden:
            continue
        fields[name] = _publish(as_json_schema(entry), f"{name}.", hidden)
        if entry.get("required") is True:
            required.append(name)
    return fields, tuple(required), declared.get("additionalProperties") is not False


def _publish(entry: Any, prefix: str, hidden: frozenset[str]) -> Any:
    """A field's schema as others may read it: without hidden parts, and without references to its surroundings."""
    if isinstance(entry, list):
        return [_publish(item, prefix, hidden) for item in entry]
    if not isinstance(entry, Mapping):
        return entry
    if not _REFERENCES.isdisjoint(entry):
        return {}
    shown: dict[str, Any] = {}
    for keyword, value in entry.items():
        if keyword in _LOCAL_KEYWORDS or (keyword == "required" and isinstance(value, bool)):
            continue
        if keyword == "properties" and isinstance(value, Mapping):
            shown[keyword] = {
                name: _publish(part, f"{prefix}{name}.", hidden)
                for name, part in value.items()
                if f"{prefix}{name}" not in hidden
            }
        elif keyword == "required" and isinstance(value, list):
            shown[keyword] = [name for name in value if f"{prefix}{name}" not in hidden]
        elif keyword in _VALUES:
            shown[keyword] = value
        else:
            shown[keyword] = _publish(value, prefix, hidden)
    return shown


_VALUES = frozenset({"const", "enum", "default", "examples"})
"""Keywords whose values are data, not schemas."""

_TEXT_ID: JsonSchema = {"type": "string", "minLength": 1, "maxLength": MAX_ID}
_GIVEN_ID: JsonSchema = {
    **_TEXT_ID,
    "type": ["string", "null"],
    "description": "Chosen by the server when it is missing.",
}
_OWN_ID: JsonSchema = {"type": ["string", "number"], "minLength": 1, "maxLength": MAX_ID}
_TOKEN: JsonSchema = {"type": "string", "description": "The access token, a JWT."}


_CONTROL = r"\u0000-\u001f\u007f-\u009f\u2028\u2029"
_INVISIBLE = (
    r"\s\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2"
    r"\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
)
_VISIBLE_NAME = f"^[^{_CONTROL}]*[^{_CONTROL}{_INVISIBLE}][^{_CONTROL}]*$"


def users(tenant: Tenant) -> tuple[Shape, Shape]:
    """Users and sign-up."""
    auth = tenant.auth
    field = auth.username_field
    name: JsonSchema = {"type": "string", "minLength": 1, "maxLength": LONGEST_NAME, "pattern": _VISIBLE_NAME}
    email: JsonSchema = {"type": ["string", "null"], "maxLength": LONGEST_ADDRESS}
    if field == "email":
        name, email = _NAMED_BY_EMAIL, {}
    password: JsonSchema = {
        "type": "string",
        "minLength": auth.password.min,
        "maxLength": auth.password.max,
        "pattern": r"^[^\u0000]*$",
        "format": "password",
        "writeOnly": True,
        "description": "Never leaves the server. `update` keeps it when it is missing.",
    }
    unique = {"description": "Unique in the app; capitals make no difference."}
    shown: dict[str, JsonSchema] = {"_id": _TEXT_ID, field: {**name, **unique}}
    taken: dict[str, JsonSchema] = {field: {**name, **unique}, "password": password}
    needed = [field, "password"]
    if email:
        shown["email"] = email
        taken["email"] = {**email, "format": "email"}
    else:
        taken[field] = {**taken[field], "format": "email"}
    if email and auth.must_verify:
        taken["email"] = {**taken["email"], "type": "string"}
        needed.append("email")
    always = ("_id",) if "anonymous" in auth.strategies else ("_id", field)
    return Shape(shown, always), Shape(taken, tuple(needed), refused=(GUARDED | {"_id"}) - {*HIDDEN})


_NAMED_BY_EMAIL: JsonSchema = {"type": "string", "minLength": 3, "maxLength": LONGEST_NAME}


def credentials(tenant: Tenant) -> Shape:
    """What a login takes."""
    field = tenant.auth.username_field
    properties: dict[str, JsonSchema] = {
        "strategy": {"type": "string", "examples": [*tenant.auth.strategies]},
        field: {"type": "string", "description": "For the strategy `local`."},
        "password": {"type": "string", "format": "password", "writeOnly": True, "description": "For `local`."},
        "accessToken": {"type": "string", "description": "For the strategy `jwt`: an earlier login's token."},
        "organization": {
            "type": ["string", "null"],
            "description": "For the strategy `organization`: its name or id; null is none.",
        },
    }
    return Shape(properties, ("strategy",))


LOGIN = Shape(
    {
        "accessToken": _TOKEN,
        "authentication": {
            "type": "object",
            "required": ["strategy", "payload"],
            "properties": {
                "strategy": {"type": "string"},
                "accessToken": _TOKEN,
                "payload": {"type": "object", "description": "The token's claims, such as `sub` and `exp`."},
            },
        },
        "user": {"type": "object", "required": ["_id"], "properties": {"_id": _TEXT_ID}},
    },
    ("accessToken", "authentication", "user"),
)


_SERVICE: JsonSchema = {"type": "string", "description": "The path of a service that has rooms."}
_ROOM_NAME: JsonSchema = {"type": ["string", "integer"], "minLength": 1, "maxLength": MAX_ROOM}
ROOM = Shape({"service": _SERVICE, "room": _ROOM_NAME}, ("service", "room"))
JOINED = Shape({"_id": _TEXT_ID, "service": _SERVICE, "room": {"type": "string"}}, ("_id", "service", "room"), False)
