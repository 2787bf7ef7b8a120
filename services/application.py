"""The application: holds the services, and is the one path that every call takes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import structlog

from hooks.chain import Hooks
from hooks.context import HookContext, Params
from hooks.errors import MethodNotAllowed, NotAuthenticated, NotFound
from hooks.projection import project, selection
from hooks.rules import Rules
from hooks.tenant import Tenant
from services.base import EVENTS, Service
from services.channels import Channel, Channels, channel_of
from services.composition import CompositionError, Extension, HostResolver, MultiTenancy, read
from services.database.schema import CollectionSchema
from services.drivers import Clients, Drivers
from services.jobs.queue import Jobs
from services.publishing import ALL_EVENTS, Publisher, Publishers
from services.readers import Readers
from services.registration import AroundHooks, HookRegistration, HooksByKind, Registration, Rooms
from services.setting_keys import SettingKeys, SettingValues
from services.startup import KINDS, LifecycleHooks, Startup, settle
from services.store import Store
from services.tenant_hooks import TenantHooks

log = structlog.get_logger()

HAPPENINGS = ("connection", "disconnect", "login", "logout")

Declared = Callable[[Tenant], Mapping[str, Registration]]
"""The services that a tenant has declared, by path."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened to a record: what is published."""

    registration: Registration
    name: str
    record: Any
    context: HookContext

    @property
    def tenant(self) -> Tenant:
        """The only tenant that may hear of it."""
        return self.context.params.tenant


Deliver = Callable[[Event], Awaitable[None] | None]
"""Brings an event to the tenant's subscribers."""
Authenticator = Callable[[Params], Awaitable[None]]
Observe = Callable[[HookContext, Registration], Awaitable[None]]


class ApplicationHooks(HooksByKind, LifecycleHooks, total=False):
    """Hooks around every service, and around the start and end of them all."""


async def _nothing(collection: CollectionSchema) -> None:
    """In memory nothing has to be brought about."""


@dataclass(frozen=True, slots=True)
class Storage:
    """Where services keep records, and how a collection's validator and indexes are brought about there."""

    store: Store
    ensure: Callable[[CollectionSchema], Awaitable[None]] = _nothing
    isolation: Any = None
    """The server's `services.isolation.Isolation`; without one, plug-ins have one over the store."""


class Application:
    """Services by path: those of the server's own code for all tenants, and those that each tenant declared."""

    def __init__(self) -> None:
        self.services: dict[str, Registration] = {}
        self.declared: Declared = lambda tenant: {}
        self.deliver: Deliver | None = None
        self.channels = Channels()
        self.readers = Readers(self.channels)
        self.publishers = Publishers(self.channels, self.readers)
        self.observe: Observe | None = None
        """Runs calls from outside in place of the application, to measure them."""
        self.authenticator: Authenticator | None = None
        self.resolve_host: HostResolver | None = None
        self.base_hosts: Sequence[str] = ()
        """Set by `multi_tenancy`, in place of the setting."""
        self.extensions: Sequence[Extension] = ()
        self.storage: Storage | None = None
        self.jobs: Jobs | None = None
        """Background work: `app.jobs.handle("digest", work)`, and `await app.jobs.enqueue("digest", {...})` in a call."""
        self.settings = SettingKeys()
        """Which settings apps have: `app.settings.declare("shop.currency", {"type": "string"}, default="EUR")`."""
        self.setting_values: SettingValues | None = None
        """What holds for an app: `await app.setting_values.value(tenant, "shop.currency")`."""
        self.drivers = Drivers()
        """What makes clients for services elsewhere: `app.drivers.register("sms", "twilio", TwilioDriver())`."""
        self.providers: Clients | None = None
        """Gives them out: `async with app.providers.client("sms", context.tenant) as sms`."""
        self.tenants = TenantHooks()
        """Hooks around creating, changing and deleting apps."""
        self.composition: MultiTenancy | None = None
        """What a plug-in has asked for by `multi_tenancy`."""
        self._hooks = Hooks()
        self._startup = Startup()
        self._hearing: set[asyncio.Task[None]] = set()
        self._listeners: dict[str, list[Callable[..., Awaitable[None] | None]]] = {}
        self._patterns: list[tuple[tuple[str, ...], Registration]] = []

    def use(
        self,
        path: str,
        service: Service,
        *,
        methods: Sequence[str] | None = None,
        events: Sequence[str] = (),
        hooks: HookRegistration | None = None,
        rules: Rules | str = "authenticated",
        rooms: Rooms | None = None,
    ) -> Registration:
        """Registers a service for all tenants; `:name` segments of the path arrive in `params.route`.

        Raises:
            ValueError: the path is taken, a method cannot be offered, or it is too late to set the service up.
        """
        path = path.strip("/")
        if not path or path in self.services:
            raise ValueError(f"The path '{path}' is taken")
        if self._startup.is_over and hasattr(service, "setup"):
            raise ValueError(f"The service '{path}' has a setup: register it before the server starts")
        registration = self.register(
            path, service, methods=methods, events=events, hooks=hooks, rules=rules, rooms=rooms
        )
        self.services[path] = registration
        if ":" in path:
            self._patterns.append((tuple(path.split("/")), registration))
        return registration

    def register(self, path: str, service: Service, **options: Any) -> Registration:
        """A registration inside this application's hooks that is not reachable by path yet."""
        return Registration(path, service, self._hooks, self._emit_own, **options)

    def hooks(self, registration: ApplicationHooks | AroundHooks) -> None:
        """Adds hooks around every service; under `setup` and `teardown` those around the server's start and end.

        Raises:
            TypeError: something that is no hook.
        """
        if isinstance(registration, Mapping):
            around = {key: hooks for key, hooks in registration.items() if key not in KINDS}
            for kind in KINDS:
                self._startup.add(kind, registration.get(kind, ()))
        else:
            around = {"around": registration}
        self._hooks.add(around)
        for service in self.services.values():
            service.recompile()

    def multi_tenancy(self, **options: Unpack[MultiTenancy]) -> None:
        """Says in one call what the parts for several tenants shall do; what is not said stays as it is.

        The server hands it on when all plug-ins are configured, and does not start if something of it cannot be had.

        Raises:
            CompositionError: an option that there is not, or a second call.
        """
        if self.composition is not None:
            raise CompositionError("multi_tenancy was called already: one plug-in composes the server")
        self.composition = read(options)

    async def setup(self) -> None:
        """Calls `setup(app, path)` of every service that has one, in the order of their registration.

        When one fails, those before it are taken down again, and the error goes on.
        """
        await self._startup.set_up(self, self.services)

    async def teardown(self) -> None:
        """Calls `teardown(app, path)` of every service that was set up, the last first. One that fails is logged."""
        await self._startup.tear_down(self)

    def service(self, path: str) -> Registration:
        """A service of the server's own, to add hooks, listeners or publishers to.

        Raises:
            LookupError: there is none at this path.
        """
        found = self.services.get(path.strip("/"))
        if found is None:
            raise LookupError(f"Can not find service '{path}'")
        return found

    def channel(self, tenant: Tenant, *names: str) -> Channel:
        """The channel of a tenant by one or several names.

        Raises:
            ValueError: no name, or one that the server keeps for itself.
        """
        return channel_of(self.channels, tenant, names)

    def publish(self, publisher: Publisher, *, path: str = "", event: str = ALL_EVENTS) -> None:
        """Registers a publisher for all services or one path, and all events or one; the most specific one counts."""
        self.publishers.add(path.strip("/"), event, publisher)

    def on(self, happening: str, listener: Callable[..., Awaitable[None] | None]) -> None:
        """Calls `listener` when something happens to a connection.

        `connection(connection)`, `disconnect(connection)`, `login(result, params)`, `logout(result, params)`.
        """
        if happening not in HAPPENINGS:
            raise ValueError(f"'{happening}' is none of {', '.join(HAPPENINGS)}")
        self._listeners.setdefault(happening, []).append(listener)

    def happen(self, happening: str, *details: Any) -> None:
        """Calls the listeners of `on`; async ones go on by themselves. One that fails costs the others nothing."""
        for listener in self._listeners.get(happening, ()):
            try:
                outcome = listener(*details)
            except Exception:
                log.exception("listener failed", happening=happening)
                continue
            if outcome is not None:
                task = asyncio.ensure_future(_hear(outcome, happening))
                self._hearing.add(task)
                task.add_done_callback(self._hearing.discard)

    def lookup(self, tenant: Tenant, path: object) -> tuple[Registration, Mapping[str, str]]:
        """The service at a path and the path's placeholders; `path/id` finds `path` with `__id`.

        Raises:
            NotFound: there is no such service for this tenant.
        """
        if not isinstance(path, str):
            raise NotFound("Invalid service path")
        declared = self.declared(tenant)
        found = self.services.get(path) or declared.get(path)
        if found is not None:
            return found, _NO_ROUTE
        path = "/".join(part for part in path.split("/") if part)
        found = self.services.get(path) or declared.get(path)
        if found is not None:
            return found, _NO_ROUTE
        segments = path.split("/")
        for pattern, registration in self._patterns:
            route = _match(pattern, segments)
            if route is not None:
                return registration, route
        parent, _, last = path.rpartition("/")
        found = self.services.get(parent) or declared.get(parent)
        if found is not None:
            return found, {"__id": last}
        raise NotFound(f"Service '{path[:100]}' not found")

    async def call(self, path: str, method: str, params: Params, *, id: Any = None, data: Any = None) -> HookContext:
        """Calls a method through all hooks, then tells of the event; returns the context with its outcome.

        Raises:
            NotFound: no such service. MethodNotAllowed: the service does not offer the method.
            FeathersError: whatever the method or a hook raises.
        """
        registration, route = self.lookup(params.tenant, path)
        if method not in registration.methods and (params.provider is not None or not registration.has(method)):
            raise MethodNotAllowed(f"Method '{method[:100]}' not allowed on service '{registration.path}'")
        if params.guard is not None:
            params = params.guarded(None)
        params.route = route
        context = HookContext(
            app=self,
            service=registration.service,
            path=registration.path,
            method=method,
            params=params,
            id=id,
            data=data,
            event=EVENTS.get(method),
        )
        observe = self.observe
        if observe is None or params.provider is None:
            await registration.chain(method)(context)
        else:
            await observe(context, registration)
        if context.event is not None:
            await self._tell(registration, context)
        return context

    def update_operators(self, tenant: Tenant, path: object) -> frozenset[str]:
        """The keys with a `$` that the service at a path takes at the top of patch data.

        Raises:
            NotFound: there is no such service for this tenant.
        """
        return self.lookup(tenant, path)[0].updates

    def asked_fields(self, tenant: Tenant) -> frozenset[str]:
        """The fields of the tenant's users that rules ask for: who could write his own would choose what he may do."""
        registrations = (*self.services.values(), *self.declared(tenant).values())
        asked = frozenset[str]().union(*(registration.asked for registration in registrations))
        return asked - {"_id", tenant.auth.username_field}

    async def authenticate(self, params: Params) -> None:
        """Verifies the token that came with a request.

        Raises:
            NotAuthenticated: it is not valid, or nobody verifies tokens here.
        """
        if self.authenticator is None:
            raise NotAuthenticated()
        await self.authenticator(params)

    async def emit(self, registration: Registration, name: str, record: Any, context: HookContext) -> None:
        """Tells the server's own listeners and the tenant's subscribers of one event."""
        try:
            for listener in registration.listeners.get(name, ()):
                await settle(listener(record, context))
            if self.deliver is not None:
                await settle(self.deliver(Event(registration, name, record, context)))
        except Exception:
            # A listener that fails costs its event, never the call that has already succeeded.
            log.exception("event lost", service=registration.path, event_name=name)

    async def _emit_own(self, registration: Registration, name: str, record: Any, tenant: Tenant) -> None:
        context = HookContext(
            app=self,
            service=registration.service,
            path=registration.path,
            method="",
            params=Params(tenant=tenant),
            result=record,
            event=name,
        )
        await self.emit(registration, name, record, context)

    async def _tell(self, registration: Registration, context: HookContext) -> None:
        name = context.event
        assert name is not None
        outcome = context.outcome
        for record in outcome if isinstance(outcome, list) else [outcome]:
            await self.emit(registration, name, record, context)


_NO_ROUTE: Mapping[str, str] = {}


def answer(context: HookContext) -> Any:
    """What the caller gets: the outcome, cut to the caller's `$select` after a writing method.

    A `$select` that names no fields is for the service to refuse; here it is too late, and nothing is cut.
    """
    outcome = context.outcome
    if context.method in EVENTS and "$select" in context.params.query:
        names = selection(context.params.query)
        if names is None:
            return outcome
        names = [*names, "_id", getattr(context.service, "id", "_id")]
        if isinstance(outcome, list):
            return [project(record, names) for record in outcome]
        return project(outcome, names)
    return outcome


def _match(pattern: Sequence[str], segments: Sequence[str]) -> Mapping[str, str] | None:
    if not len(pattern) <= len(segments) <= len(pattern) + 1:
        return None
    route: dict[str, str] = {}
    for expected, segment in zip(pattern, segments, strict=False):
        if expected.startswith(":"):
            route[expected[1:]] = segment
        elif expected != segment:
            return None
    if len(segments) > len(pattern):
        route["__id"] = segments[-1]
    return route


async def _hear(outcome: Awaitable[None], happening: str) -> None:
    try:
        await outcome
    except Exception:
        log.exception("listener failed", happening=happening)
