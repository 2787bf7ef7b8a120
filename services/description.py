"""What a tenant offers, as one model: the source of every document about it, whether for people or for machines."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from hooks.rules import Rule, needs_login, rule_for
from hooks.tenant import Tenant
from services.application import Application
from services.authentication.service import AuthenticationService
from services.base import EVENTS, STANDARD_METHODS
from services.mongo import ServiceOptions
from services.query import OPERATORS, Paginate
from services.registration import Registration
from services.rooms import RoomsService
from services.shape import JOINED, LOGIN, ROOM, Shape, credentials, shapes_of, users
from services.users import UsersService

Access = Literal["public", "authenticated", "own", "rule"]
"""Who may call: anyone, who is logged in, who is logged in and only for the own records, or whom a rule admits."""
Audience = Literal["public", "authenticated", "rule", "chosen", "own"]
"""`own` is the event of a client whose login is over although it has not logged out: `{reason}`, instead of a record."""
"""Who hears of an event: anyone, who is logged in, whom a rule admits, or whom the service's own publisher chooses."""

Kind = Literal["records", "login", "rooms"]
"""Rooms are a connection's own: only sockets have them."""


@dataclass(frozen=True, slots=True)
class MethodDescription:
    """A method that somebody may call."""

    name: str
    access: Access
    needs_login: bool
    is_multi: bool = False
    """Whether `create` takes lists; whether patch and remove without an id answer with the list of all that matched."""

    @property
    def is_custom(self) -> bool:
        """Whether it is none of the six standard methods."""
        return self.name not in STANDARD_METHODS


@dataclass(frozen=True, slots=True)
class EventDescription:
    """An event that clients hear of under `<path> <name>`, with the record as its argument unless it is their own."""

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
    updates: tuple[str, ...] = ()
    """The operators, such as `$inc`, that `patch` takes beside plain fields."""
    is_searchable: bool = False
    """Whether `find` takes `$search`."""
    has_cursors: bool = False
    """Whether `find` takes `$after`, `$before`, `$cursor` and `$total`."""
    room_field: str | None = None
    """Events go only to those who have joined the room that this field of the record names."""

    def method(self, name: str) -> MethodDescription | None:
        """The method of that name, if somebody may call it."""
        return next((method for method in self.methods if method.name == name), None)

    @property
    def takes_queries(self) -> bool:
        """Whether it is known to take Feathers' queries; services in code may take what they like."""
        return bool(self.operators)

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
    if not tenant.is_control_plane:
        registrations = {path: found for path, found in registrations.items() if not _is_for_managers(found)}
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


def _is_for_managers(registration: Registration) -> bool:
    return bool(getattr(registration.service, "control_plane", False))


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
        kind, record, data = "login", LOGIN, credentials(tenant)
    elif isinstance(service, UsersService):
        record, data = users(tenant)
    elif isinstance(service, RoomsService):
        kind, record, data = "rooms", JOINED, ROOM
    else:
        record, data = shapes_of(service, (declared.schema_ or {}) if declared else None, id)
    return ServiceDescription(
        path=registration.path,
        type_name=names.take(registration.path),
        kind=kind,
        id=id,
        methods=methods,
        events=tuple(_events(registration, methods, app, is_declared=declared is not None))
        if kind == "records"
        else (EventDescription("removed", "own"),)
        if kind == "login"
        else (),
        record=record,
        data=data,
        paginate=options.paginate if options else None,
        operators=tuple(sorted((OPERATORS | options.operators) - {"$search"})) if options else (),
        updates=tuple(sorted(registration.updates)),
        is_searchable=options is not None and "$search" in options.operators,
        has_cursors=options is not None and options.paginate is not None,
        room_field=registration.rooms.by if registration.rooms else None,
    )


def _methods(registration: Registration, options: ServiceOptions | None) -> Iterator[MethodDescription]:
    multi = options.multi if options else frozenset[str](getattr(registration.service, "multi", ()))
    custom = [name for name in registration.methods if name not in STANDARD_METHODS]
    for name in (*STANDARD_METHODS, *custom):
        rule = rule_for(registration.rules, name)
        if name in registration.methods and rule != "nobody":
            yield MethodDescription(name, _access(rule), needs_login(rule), name in multi)


def _access(rule: Rule) -> Access:
    """Of a rule that is a query no more is told than this: it may name what is hidden."""
    if isinstance(rule, Mapping):
        return "own" if [*rule.values()] == ["$user._id"] else "rule"
    return "public" if rule == "public" else "authenticated"


def _events(
    registration: Registration, methods: tuple[MethodDescription, ...], app: Application, *, is_declared: bool
) -> Iterator[EventDescription]:
    """Without a publisher, events go to those whom the rule of `get` admits. Only code can cause them from inside."""
    audience = _audience(rule_for(registration.rules, "get"))
    callable_methods = {method.name for method in methods}
    causes = {event: method for method, event in EVENTS.items()}
    for event in registration.events:
        cause = causes.get(event)
        if cause is not None and cause not in (callable_methods if is_declared else registration.methods):
            continue
        if app.publishers.has(registration.path, event):
            yield EventDescription(event, "chosen")
        elif audience is not None:
            yield EventDescription(event, audience)


def _audience(rule: Rule) -> Audience | None:
    if isinstance(rule, Mapping):
        return "rule"
    return None if rule == "nobody" else "public" if rule == "public" else "authenticated"


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
