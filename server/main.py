"""The composition root: the only place where the parts meet."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack
from typing import Any

from aiohttp import web

from hooks.rate import enforce_limits
from hooks.scopes import enforce_scopes
from hooks.searching import SEARCHING, pay_for_searches
from hooks.tenancy import enforce_app_id, inject_app_id
from hooks.tenant import Placement, Tenant
from server.addresses import Addresses
from server.applying import apply_at_start
from server.authorize import Authorize
from server.backend import Backend, StartError, check_guards, make_admin, open_backend
from server.background import Background
from server.composition import compose, extend
from server.connection import Connection
from server.connections import Connections
from server.documents.routes import Documents
from server.dropping import delete_all
from server.engine import Engine, Listener, Options
from server.entrance import Entrance
from server.health import Health
from server.jwks import Jwks
from server.modules import configure
from server.oauth import OAuth
from server.occupancy import Occupancy
from server.pages import Pages
from server.people import QUIET, People
from server.publish import Publisher, dismiss, tell_ending
from server.querystring import MAX_LENGTH
from server.relay import Relay
from server.rest import MAX_BODY, Rest
from server.settings import Settings
from server.sharing import bus_of, rate_store_of, wanted_by
from server.sockets import Sockets
from server.sync import Syncing
from server.telemetry.station import Station
from server.telemetry.traces import NoTracing, Traces
from services import rooms
from services.accounts.hooks import hush_users
from services.application import Application, Event, Storage
from services.audit import AUDIT_RULES, AuditLogService
from services.audit import PATH as AUDIT_LOG
from services.audited import RuleLog, watch_services
from services.control.catalogue import Catalogue
from services.control.slots import Slots
from services.database.command_spans import CommandSpans
from services.database.schema import CollectionSchema
from services.declaration import Declaration
from services.declared import DeclaredServices
from services.jobs.queue import Jobs
from services.limits.quotas import PATH as QUOTAS
from services.limits.quotas import QUOTAS_RULES, Quotas, QuotasService
from services.limits.rates import Rates
from services.limits.searches import SearchTimes
from services.tasks import end

MAX_LINE = 2 * MAX_LENGTH
"""Bytes of a request line: a query string that is too long still gets a sentence."""
LAST_CALLS = 10.0
"""Seconds that running calls have to end when the server stops."""
LAST_ANSWERS = 5.0
"""Seconds that running requests have to end when the server stops."""


class Roost:
    """A running server. Made by `start`, ended by `stop`."""

    def __init__(self, backend: Backend, resources: AsyncExitStack, traces: Traces | None = None) -> None:
        settings = backend.settings
        deployment = backend.deployment
        self.settings = settings
        self.backend = backend
        self._resources = resources
        self.app = Application()
        self.connections = Connections(self.app.channels, self.app.readers, tell=tell_ending, dismiss=dismiss)
        self.catalogue = Catalogue(
            deployment,
            database=settings.database,
            # Tokens of the control plane are shown everywhere.
            in_use=lambda id: id == settings.control_plane or self.connections.has(id),
        )
        self.catalogue.on_change(self.connections.refresh)
        self.slots = Slots(deployment, backend.nodes, database=settings.database, beat=settings.heartbeat)
        self.occupancy = Occupancy(self.connections, self.slots, settings.plan_connections)
        self.connections.counter = self.occupancy
        self.catalogue.on_change(self.occupancy.follow)
        isolation = backend.isolation
        self.app.storage = Storage(deployment, self._ensure, isolation)
        self.app.declared = DeclaredServices(self.app, isolation)
        self.rates = Rates(rate_store_of(backend))
        self.quotas = Quotas(backend.quota_store)
        self.addresses = Addresses(settings.trusted_proxies)
        self.telemetry = Station(backend, self.connections, self.addresses, traces)
        self.app.observe = self.telemetry.observer
        sent = (self.telemetry.observer.event, self._charge_event)
        self.bus = bus_of(backend)
        self.relay = Relay(
            self.app,
            self.bus,
            Publisher(self.app.publishers, *sent),
            catalogue=self.catalogue,
            connections=self.connections,
        )
        self.app.deliver = hush_users(self.relay)
        self.app.hooks(
            {
                "around": dict.fromkeys(SEARCHING, (pay_for_searches(self.rates, SearchTimes()),)),
                "before": {"all": [enforce_limits(self.rates, self.quotas), enforce_scopes]},
            }
        )
        self.app.hooks(TENANCY_HOOKS)
        self.outbound = backend.outbound
        self.jobs = self.app.jobs = Jobs(backend.job_store, control_plane=settings.control_plane)
        self.people = People(
            self.app,
            backend,
            isolation=isolation,
            connections=self.connections,
            outbound=self.outbound,
            jobs=self.jobs,
            home=self._home,
            tenants=self.catalogue.get,
            issuers=self.catalogue.issuer,
        )
        self.catalogue.on_change(self.people.logins.follow_tenant)
        self._follow_placements()
        self.entrance = Entrance(
            self.app, backend, catalogue=self.catalogue, addresses=self.addresses, tokens=self.people.tokens
        )
        self.resolver = self.entrance.resolver
        self.connections.newest = self.resolver.current
        watch_services(self.app, backend.audit, lambda: self.catalogue.peek(settings.control_plane))
        rule_log = RuleLog(backend.audit, backend.own_rules)
        self.app.use(AUDIT_LOG, AuditLogService(isolation, rule_log.complete), rules=AUDIT_RULES, hooks=QUIET)
        self.background = Background(self.app, backend, self.jobs, catalogue=self.catalogue, people=self.people)
        self.app.drivers, self.app.providers = backend.drivers, backend.providers
        backend.inheritance.offer(self.app, self.catalogue, backend.audit, backend.provider_settings)
        self.syncing = Syncing(self.app, backend, self.jobs, self.telemetry.metrics)
        self.app.use(QUOTAS, QuotasService(self.quotas), rules=QUOTAS_RULES)
        self.app.use(rooms.PATH, rooms.RoomsService(self.app), rules="public", hooks=QUIET)
        backend.control.offer(self.app, backend.configuration, self.people.grants)
        self.engine = Engine(
            Sockets(
                self.app,
                self.resolver,
                self.connections,
                self.people.authentication,
                self.addresses,
                rates=self.rates,
                occupancy=self.occupancy,
            ),
            Options(max_connections=settings.max_connections, may_skip_http=self.entrance.door.is_open),
        )
        self.pages = Pages(settings.example)
        self.port = settings.port
        self.first_password: str | None = None
        """Of the control plane's first user, if it was made up at this start: for `welcome` alone, which forgets it."""

    @classmethod
    async def start(
        cls, settings: Settings, declaration: Declaration | None = None, *, listeners: Sequence[Any] = ()
    ) -> Roost:
        """Starts everything, applies the declaration, and listens.

        Raises:
            StartError: no MongoDB, no master key, a taken port, a module that does not configure, or asks in vain.
            FeathersError: the database refuses.
        """
        traces = _traces(settings)
        if traces is not None:
            listeners = [*listeners, CommandSpans(traces)]
        async with AsyncExitStack() as stack:
            backend = await stack.enter_async_context(open_backend(settings, listeners))
            roost = cls(backend, stack, traces)
            for module in settings.modules:
                await configure(roost.app, module)
            compose(roost.app, backend)
            backend.check_placement()
            control_plane = await backend.found()
            await check_guards(backend, control_plane)
            roost.first_password = await make_admin(backend, control_plane, roost.people.passwords)
            if declaration is not None:
                await apply_at_start(backend, declaration)
            await backend.control.runner.start()
            roost.entrance.follow()
            await roost._listen(stack)
            roost._resources = stack.pop_all()
            return roost

    async def stop(self) -> None:
        """Stops listening, closes the sockets, and gives back the database. May be called more than once."""
        await self._resources.aclose()

    async def drop(self) -> None:
        """Stops, and deletes all that was kept: for tests and trials."""
        # Last of all: what still works in the background would find nothing, and complain.
        self.backend.at_end.push_async_callback(delete_all, self.backend)
        await self.stop()

    @property
    def url(self) -> str:
        """Where the server listens."""
        return f"http://{self.settings.host}:{self.port}"

    def welcome(self) -> str:
        """What to do next, for a person at a terminal; and, once, the password that was made up at the first start."""
        password, self.first_password = self.first_password, None
        admin = "" if password is None else _FIRST_ADMIN.format(name=self.settings.admin_username, password=password)
        apps = sorted({*self.catalogue.known()} - {self.settings.control_plane})
        tenants = ", ".join(apps[:20]) or "none yet: python -m server apply FILE"
        example = f"{self.url}/example/" if self.pages.has_example else "run npm ci in client-example first"
        return (
            f"\nRoost listens on {self.url}\n"
            f"  health   {self.url}/health\n  docs     {self.url}/docs\n"
            f"  example  {example}\n"
            f"  appIds   {tenants}\n  control  {self.settings.control_plane}\n{admin}\nCtrl-C stops it.\n"
        )

    def heed_signals(self) -> asyncio.Event:
        """From now on SIGINT and SIGTERM end nothing at once: they set the event."""
        signalled = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, signalled.set)
        return signalled

    async def _listen(self, stack: AsyncExitStack) -> None:
        await self.backend.check_rooms()
        await self.catalogue.start()
        stack.push_async_callback(self.catalogue.stop)
        await self.catalogue.warm()
        # Its tokens are shown everywhere: it is known from the beginning, and stays.
        await self.catalogue.get(self.settings.control_plane)
        self.slots.start()
        stack.push_async_callback(self.slots.stop)
        stack.push_async_callback(end, asyncio.create_task(self.entrance.verification.run(), name="domains"))
        await self.backend.tenants.prepare_own_collections()
        await self.backend.tenants.prepare_catalogue()
        await self.people.start(stack)
        stack.push_async_callback(self.outbound.close)
        await self.app.setup()
        await self.backend.own_rules.note({path: own.rules for path, own in self.app.services.items()})
        stack.push_async_callback(self.app.teardown)
        stack.push_async_callback(self.quotas.stop)
        with wanted_by("ROOST_RATES"):
            await self.rates.start()
        stack.push_async_callback(self.rates.stop)
        with wanted_by("ROOST_BUS"):
            await self.bus.start(self.relay.hear)
        stack.push_async_callback(self.bus.stop)
        await self.telemetry.start(stack)
        await self.syncing.start(stack)
        await self.background.start(stack)
        await extend(self.app, stack)
        web_app = self._web_app()
        runner = Listener(
            web_app,
            self.engine.options,
            handle_signals=False,
            max_line_size=MAX_LINE,
            shutdown_timeout=LAST_ANSWERS,
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, self.settings.host, self.settings.port, backlog=1024)
        try:
            await site.start()
        except OSError as error:
            raise StartError(
                f"{self.settings.host}:{self.settings.port} cannot be listened on ({error.strerror}): "
                "stop the program that holds it, or choose another with --port or ROOST_PORT"
            ) from error
        self.port = runner.addresses[0][1]
        stack.push_async_callback(self._drain, runner)

    async def _ensure(self, schema: CollectionSchema) -> None:
        """Brings a plug-in's collection about, in the shared database and in every other one."""
        self.backend.placements.include(schema)
        await self.backend.deployment.ensure(self.settings.database, schema)

    def _follow_placements(self) -> None:
        """Apps that move are followed, and what happens to the logins of those whose data is elsewhere."""
        self.backend.moving.on_move(self.catalogue.refresh)
        self.backend.moving.on_move(self.connections.close)
        self.backend.moving.on_move(self._follow_move)
        self.app.on("connection", self._follow_connection)
        self.app.on("disconnect", self._forget_connection)

    def _home(self, app_id: str) -> Placement | None:
        """Where a tenant's data is, as far as it is known here."""
        place = self.backend.writes.places.get(app_id)
        if place is not None:
            return place.placement
        tenant = self.catalogue.peek(app_id)
        return None if tenant is None else tenant.placement

    def _follow_connection(self, connection: Connection) -> Awaitable[None] | None:
        placement = self._home(connection.tenant.id) or connection.tenant.placement
        # What is shared is heard in any case: there is no task for each connection.
        return None if placement.model == "shared" else self.people.changes.follow(connection.tenant)

    def _forget_connection(self, connection: Connection) -> Awaitable[None] | None:
        id = connection.tenant.id
        return None if self.connections.has(id) else self.people.changes.release(id)

    async def _follow_move(self, tenant: Tenant) -> None:
        """Changes of a tenant's records are heard where they are now, before the first of them can happen there."""
        if self.connections.has(tenant.id):
            await self.people.changes.follow(tenant)

    async def _drain(self, listener: Listener) -> None:
        """Takes nothing new, lets running calls end, and closes the sockets a few at a time."""
        await listener.stop_accepting()
        await self.engine.drain(LAST_CALLS)
        await self.engine.close()

    def _charge_event(self, event: Event, sockets: int) -> None:
        self.rates.charge(event.tenant, "broadcast", sockets)

    def _web_app(self) -> web.Application:
        web_app = web.Application(
            client_max_size=MAX_BODY, middlewares=[self.entrance.door.middleware(self.engine.options.path)]
        )
        self.engine.attach(web_app)
        health = Health(self.backend.deployment, self.connections, self.backend.writes)
        web_app.router.add_get("/health", health.health)
        web_app.router.add_get("/ready", health.ready)
        web_app.router.add_get("/.well-known/jwks.json", Jwks(self.resolver, self.backend.keys).handle)
        self.telemetry.attach(web_app)
        self.pages.attach(web_app)
        assert self.people.authentication.authorization is not None
        Authorize(
            self.app,
            self.resolver,
            self.connections,
            self.addresses,
            authorization=self.people.authentication.authorization,
            rates=self.rates,
        ).attach(web_app)
        OAuth(
            self.app,
            self.resolver,
            self.connections,
            self.addresses,
            states=self.people.oauth_states,
            providers=self.people.providers,
            registrations=self.backend.inheritance.credentials,
            public_url=lambda: self.settings.public_url or self.url,
        ).attach(web_app)
        Documents(self.app, self.resolver, self.addresses).attach(web_app)
        web_app.router.add_route(
            "*", r"/{path:[\s\S]*}", Rest(self.app, self.resolver, self.connections, self.addresses).handle
        )
        return web_app


_FIRST_ADMIN = """
  The control plane's first user was made. His password is shown this once:
  username {name}
  password {password}
"""


TENANCY_HOOKS: dict[str, Any] = {
    "before": {
        "all": [enforce_app_id],
        "create": [inject_app_id],
        "update": [inject_app_id],
        "patch": [inject_app_id],
    }
}
"""Around every service of every tenant."""


def _traces(settings: Settings) -> Traces | None:
    try:
        return Traces() if settings.tracing else None
    except NoTracing as error:
        raise StartError(f"ROOST_TRACING: {error}") from error
