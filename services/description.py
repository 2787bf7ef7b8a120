"""What a tenant offers, as one model: the source of every document about it, whether for people or for machines."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hooks.permit import Rule, rule_for
from hooks.tenant import Tenant
from services.application import Application
from services.authentication.names import LONGEST as LONGEST_NAME
from services.authentication.passwords import LONGEST, SHORTEST
from services.authentication.service import AuthenticationService
from services.base import EVENTS, STANDARD_METHODS
from services.channels import MAX_ROOM
from services.declaration import ServiceDeclaration
from services.isolation import MAX_ID
from services.mongo import ServiceOptions
from services.query import OPERATORS, Paginate
from services.registration import Registration
from services.rooms import RoomsService
from services.users import GUARDED, KEY, UsersService

JsonSchema = Mapping[str, Any]
Access = Literal["public", "authenticated", "restricted"]
"""Who may call: anyone, who is logged in, or who is logged in and then only for some of the records."""
Audience = Literal["public", "authenticated", "chosen"]
"""Who hears of an event: anyone, who is logged in, or whom the service's own publisher chooses."""

Kind = Literal["records", "login", "rooms"]
"""Rooms are a connection's own: only sockets have them."""

_RESTRICTED: Access = "restricted"
_AUDIENCES: Mapping[str, Audience] = {"public": "public", "authenticated": "authenticated"}
_REFERENCES = frozenset({"$ref", "$dynamicRef"})
_LOCAL_KEYWORDS = frozenset({"$schema", "$id", "$anchor", "$dynamicAnchor", "$defs", "$vocabulary"})


@dataclass(frozen=True, slots=True)
class Shape:
    """An object: a JSON Schema for each known field, which of them must be there, and whether others may be."""

    properties: Mapping[str, JsonSchema]
    required: tuple[str, ...] = ()
    is_open: bool = True
    refused: frozenset[str] = frozenset()
    """Fields that an open shape does not take all the same."""


@dataclass(frozen=True, slots=True)
class MethodDescription:
    """A method that somebody may call."""

    name: str
    access: Access
    condition: JsonSchema | None = None
    """For `restricted`: the query template that narrows the call."""
    is_multi: bool = False
    """Whether `create` takes lists; whether patch and remove without an id answer with the list of all that matched."""

    @property
    def is_custom(self) -> bool:
        """Whether it is none of the six standard methods."""
        return self.name not in STANDARD_METHODS


@dataclass(frozen=True, slots=True)
class EventDescription:
    """An event that clients hear of under `<path> <name>`, with the record as its argument."""

    name: str
    audience: Audience


@dataclass(frozen=True, slots=True)
class ServiceDescription:
    """A service as a client sees it. Hidden fields are in none of its shapes."""

    path: str
    type_name: str
    """A name for types, such as `Messages`; no two services of a tenant have the same."""
    kind: Kind
    id: str
    methods: tuple[MethodDescription, ...]
    events: tuple[EventDescription, ...]
    record: Shape
    data: Shape
    """What `create` and `update` take; `patch` takes any part of it."""
    paginate: Paginate | None = None
    """None: `find` answers with a bare list."""
    operators: tuple[str, ...] = ()
    room_field: str | None = None
    """Events go only to those who have joined the room that this field of the record names."""

    def method(self, name: str) -> MethodDescription | None:
        """The method of that name, if somebody may call it."""
        return next((method for method in self.methods if method.name == name), None)

    @property
    def custom_methods(self) -> tuple[MethodDescription, ...]:
        """Those besides the six."""
        return tuple(method for method in self.methods if method.is_custom)


@dataclass(frozen=True, slots=True)
class TenantDescription:
    """All that an app offers to its clients."""

    id: str
    name: str
    epoch: int
    username_field: str
    services: tuple[ServiceDescription, ...]
    """Login and users first, then the rest by path. A service that nobody may call is missing."""

    def service(self, path: str) -> ServiceDescription | None:
        """The service at that path, if somebody may call it."""
        return next((service for service in self.services if service.path == path), None)


def describe(tenant: Tenant, app: Application) -> TenantDescription:
    """The services that the tenant declared, and those of the server's own code, as the tenant's clients see them."""
    registrations = {**app.declared(tenant), **app.services}
    if all(registration.rooms is None for registration in registrations.values()):
        registrations = {path: found for path, found in registrations.items() if not _is_rooms(found)}
    order = sorted(registrations, key=lambda path: (path not in _FIRST, path))
    names = _TypeNames()
    services = []
    for path in order:
        described = _service(tenant, registrations[path], app, names)
        if described is not None:
            services.append(described)
    return TenantDescription(tenant.id, tenant.name, tenant.epoch, tenant.auth.username_field, tuple(services))


_FIRST = ("authentication", "users")


def _is_rooms(registration: Registration) -> bool:
    return isinstance(registration.service, RoomsService)


def _service(
    tenant: Tenant, registration: Registration, app: Application, names: _TypeNames
) -> ServiceDescription | None:
    service = registration.service
    declared = tenant.services.get(registration.path) if registration.path not in app.services else None
    found = getattr(service, "options", None)
    options = found if isinstance(found, ServiceOptions) else None
    methods = tuple(_methods(registration, options))
    if not methods:
        return None
    id = str(getattr(service, "id", "_id"))
    kind: Kind = "records"
    if isinstance(service, AuthenticationService):
        kind, record, data = "login", _LOGIN, _credentials(tenant)
    elif isinstance(service, UsersService):
        record, data = _users(tenant)
    elif isinstance(service, RoomsService):
        kind, record, data = "rooms", _JOINED, _ROOM
    else:
        record, data = _shapes(declared, options, id)
    return ServiceDescription(
        path=registration.path,
        type_name=names.take(registration.path),
        kind=kind,
        id=id,
        methods=methods,
        events=()
        if kind != "records"
        else tuple(_events(registration, methods, app, is_declared=declared is not None)),
        record=record,
        data=data,
        paginate=options.paginate if options else None,
        operators=tuple(sorted(OPERATORS | options.operators)) if options else (),
        room_field=registration.rooms.by if registration.rooms else None,
    )


def _methods(registration: Registration, options: ServiceOptions | None) -> Iterator[MethodDescription]:
    multi = options.multi if options else frozenset()
    custom = [name for name in registration.methods if name not in STANDARD_METHODS]
    for name in (*STANDARD_METHODS, *custom):
        rule = rule_for(registration.rules, name)
        if name in registration.methods and rule != "nobody":
            yield MethodDescription(name, _access(rule), rule if isinstance(rule, Mapping) else None, name in multi)


def _access(rule: Rule) -> Access:
    return "public" if rule == "public" else "authenticated" if rule == "authenticated" else _RESTRICTED


def _events(
    registration: Registration, methods: tuple[MethodDescription, ...], app: Application, *, is_declared: bool
) -> Iterator[EventDescription]:
    """Without a publisher, events go to those whom the rule of `get` admits. Only code can cause them from inside."""
    rule = rule_for(registration.rules, "get")
    callable_methods = {method.name for method in methods}
    causes = {event: method for method, event in EVENTS.items()}
    for event in registration.events:
        cause = causes.get(event)
        if cause is not None and cause not in (callable_methods if is_declared else registration.methods):
            continue
        if app.publishers.has(registration.path, event):
            yield EventDescription(event, "chosen")
        elif isinstance(rule, str) and rule in _AUDIENCES:
            yield EventDescription(event, _AUDIENCES[rule])


def _shapes(declared: ServiceDeclaration | None, options: ServiceOptions | None, id: str) -> tuple[Shape, Shape]:
    """What leaves and what is taken: for a service whose code says nothing about its records, any object."""
    hidden = options.hidden if options else frozenset()
    fields: dict[str, JsonSchema] = {}
    required: list[str] = []
    is_open = True
    for name, entry in ((declared.schema_ if declared else None) or {}).items():
        if name == "additionalProperties":
            is_open = bool(entry)
        elif name not in hidden:
            fields[name] = _publish(entry, f"{name}.", hidden)
            if entry.get("required") is True:
                required.append(name)
    ids: dict[str, JsonSchema] = {"_id": _TEXT_ID, id: _TEXT_ID}
    given: dict[str, JsonSchema] = {"_id": _GIVEN_ID}
    if id != "_id":
        ids[id] = fields.get(id, _OWN_ID)
        if is_open:
            given[id] = fields.get(id, _OWN_ID)
    required_ids = tuple(ids) if options else ()
    return (
        Shape({**ids, **fields}, (*required_ids, *(name for name in required if name not in ids)), is_open),
        Shape({**given, **fields}, tuple(required), is_open, refused=frozenset(hidden)),
    )


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


def _users(tenant: Tenant) -> tuple[Shape, Shape]:
    field = tenant.auth.username_field
    name: JsonSchema = {
        "type": "string",
        "minLength": 1,
        "maxLength": LONGEST_NAME,
        "description": "Unique in the app; capitals make no difference.",
    }
    password: JsonSchema = {
        "type": "string",
        "minLength": SHORTEST,
        "maxLength": LONGEST,
        "format": "password",
        "writeOnly": True,
        "description": "Never leaves the server. `update` keeps it when it is missing.",
    }
    record = Shape({"_id": _TEXT_ID, field: name}, ("_id", field))
    refused = GUARDED | {KEY, "_id"}
    return record, Shape({field: name, "password": password}, (field, "password"), refused=refused)


def _credentials(tenant: Tenant) -> Shape:
    field = tenant.auth.username_field
    properties: dict[str, JsonSchema] = {
        "strategy": {"type": "string", "examples": ["local", "jwt"]},
        field: {"type": "string", "description": "For the strategy `local`."},
        "password": {"type": "string", "format": "password", "writeOnly": True, "description": "For `local`."},
        "accessToken": {"type": "string", "description": "For the strategy `jwt`: an earlier login's token."},
    }
    return Shape(properties, ("strategy",))


_LOGIN = Shape(
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
_ROOM = Shape({"service": _SERVICE, "room": _ROOM_NAME}, ("service", "room"))
_JOINED = Shape({"_id": _TEXT_ID, "service": _SERVICE, "room": {"type": "string"}}, ("_id", "service", "room"), False)


class _TypeNames:
    """Gives out names for types: `Messages` for `messages`, `ApiUserNotes` for `api/user-notes`."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, path: str) -> str:
        words = re.findall(r"[A-Za-z0-9]+", path)
        name = "".join(word[0].upper() + word[1:] for word in words) or "Service"
        name = f"S{name}" if name[0].isdigit() else name
        free, count = name, 1
        while free in self._taken:
            count += 1
            free = f"{name}{count}"
        self._taken.add(free)
        return free
