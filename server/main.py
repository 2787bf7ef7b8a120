"""The composition root: the only place where the parts meet."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import structlog
from aiohttp import web

from hooks.context import HookContext
from hooks.errors import FeathersError
from hooks.limit import limit
from hooks.scopes import enforce_scopes
from hooks.tenancy import enforce_app_id, inject_app_id
from server.addresses import Addresses
from server.connections import Connections
from server.cors import PollingOrigins
from server.documents.routes import Documents
from server.engine import Engine, Listener, Options
from server.health import Health
from server.jwks import Jwks
from server.logins import CHANGING, ENDING, Logins
from server.outbound import Outbound
from server.pages import Pages
from server.publish import Publisher
from server.querystring import MAX_LENGTH
from server.rest import MAX_BODY, Rest
from server.settings import Settings
from server.sockets import Sockets
from services import rooms, sessions
from services.accounts.hooks import account_hooks, hush_users
from services.accounts.letters import Letters
from services.accounts.service import PATH as ACCOUNTS
from services.accounts.service import AccountsService
from services.accounts.tokens import AccountTokens
from services.api_keys import API_KEYS_RULES, ApiKeysService
from services.api_keys import PATH as API_KEYS
from services.application import Application, Storage
from services.audit import AUDIT_RULES, Audit, AuditLogService
from services.audit import PATH as AUDIT_LOG
from services.audited import note_applied, watch_services
from services.authentication.api_keys import ApiKeys
from services.authentication.attempts import Attempts, account_attempt, login_attempt, sign_up_attempt
from services.authentication.directory import Directory
from services.authentication.external import ExternalStrategy
from services.authentication.identities import Identities
from services.authentication.keys import Keys
from services.authentication.keysets import KeySets
from services.authentication.ledger import Ledger
from services.authentication.master import MasterKey
from services.authentication.passwords import Passwords
from services.authentication.service import AUTHENTICATION_RULES, AuthenticationService
from services.authentication.tokens import Tokens
from services.control.catalogue import Catalogue
from services.control.changes import Changes
from services.control.keys import MongoKeyStore
from services.control.secrets import Secrets
from services.control.tenants import Change, Tenants, control_database
from services.database.deployment import Deployment
from services.database.embedded import EmbeddedMongod, EmbeddedMongodError
from services.declaration import Declaration
from services.declared import DeclaredServices
from services.errands import Errands
from services.isolation import Isolation
from services.mail.mailers import choose_mailer
from services.mail.message import Mailer
from services.mail.outbox import Outbox
from services.registration import HooksByKind
from services.users import USERS_RULES, UsersService, session_hooks, users_hooks

log = structlog.get_logger()

MAX_LINE = 2 * MAX_LENGTH
"""Bytes of a request line: a query string that is too long still gets a sentence."""
LAST_CALLS = 10.0
"""Seconds that running calls have to end when the server stops."""
LAST_ANSWERS = 5.0
"""Seconds that running requests have to end when the server stops."""


class StartError(Exception):
    """The server cannot start; the sentence says what to do."""


class Backend:
    """What lies below the transports and is shared with the command line: the database, the keys and the tenants."""

    def __init__(self, settings: Settings, deployment: Deployment, master: MasterKey) -> None:
        self.settings = settings
        self.deployment = deployment
        self.key_store = MongoKeyStore(deployment, database=settings.database)
        self.keys = Keys(self.key_store, master)
        self.tenants = Tenants(deployment, self.keys, database=settings.database)
        self.secrets = Secrets(deployment, master, self.tenants, database=settings.database)
        self.audit = Audit(Isolation(deployment), days=settings.audit_days)

    async def apply(self, declaration: Declaration) -> list[Change]:
        """Applies a declaration, and leaves word of it in the logs of the tenants that it changes."""
        before = {declared.id: await self.tenants.get(declared.id) for declared in declaration.tenants}
        changes = await self.tenants.apply(declaration)
        for change in changes:
            tenant = await self.tenants.get(change.tenant)
            if tenant is not None and change.outcome != "unchanged":
                note_applied(self.audit, change, before[change.tenant], tenant)
        return changes


@asynccontextmanager
async def open_backend(settings: Settings, listeners: Sequence[Any] = ()) -> AsyncIterator[Backend]:
    """The backend of these settings, with the embedded mongod started or joined when no URI is set.

    `listeners` hear of every database command.

    Raises:
        StartError: no MongoDB, or no master key.
    """
    master = _master_key(settings)
    async with AsyncExitStack() as stack:
        if settings.mongodb_uri is not None:
            uri = settings.mongodb_uri.get_secret_value()
        else:
            try:
                mongod = await EmbeddedMongod.start(settings.data, settings.mongod_port)
            except EmbeddedMongodError as error:
                raise StartError(str(error)) from error
            stack.push_async_callback(mongod.stop)
            uri = mongod.uri
        deployment = Deployment(
            uri,
            max_time_ms=settings.query_time,
            pool_size=settings.mongo_pool,
            path=settings.mongo_path,
            event_listeners=listeners,
        )
        try:
            await deployment.open()
        except FeathersError as error:
            if settings.mongodb_uri is None:
                raise
            raise StartError(f"ROOST_MONGODB_URI: {error.message}") from error
        stack.push_async_callback(deployment.close)
        backend = Backend(settings, deployment, master)
        stack.push_async_callback(backend.audit.stop)
        await backend.key_store.prepare()
        await backend.secrets.prepare()
        yield backend


class Roost:
    """A running server. Made by `start`, ended by `stop`."""

    def __init__(self, backend: Backend, resources: AsyncExitStack) -> None:
        settings = backend.settings
        deployment = backend.deployment
        self.settings = settings
        self.backend = backend
        self._resources = resources
        self.app = Application()
        self.connections = Connections(self.app.channels, self.app.readers)
        self.catalogue = Catalogue(backend.tenants, deployment, database=settings.database)
        self.catalogue.on_change(self.connections.refresh)
        isolation = Isolation(deployment)
        self.app.storage = Storage(deployment, partial(deployment.ensure, settings.database))
        self.app.declared = DeclaredServices(self.app, isolation)
        self.app.deliver = hush_users(Publisher(self.app.publishers))
        self.app.hooks({"before": {"all": [enforce_scopes]}})
        self.app.hooks(TENANCY_HOOKS)
        self.passwords = Passwords()
        self.addresses = Addresses(settings.trusted_proxies)
        attempts = Attempts(per_name=settings.name_failures, per_address=settings.address_failures)
        self.ledger = Ledger(isolation, self.connections)
        self.api_keys = ApiKeys(isolation, self.connections)
        self.outbound = Outbound(allow_private=settings.outbound_private)
        tokens = Tokens(backend.keys, lifetime=settings.token_lifetime)
        directory = Directory(self.app)
        identities = Identities(isolation, directory)
        self.authentication = AuthenticationService(
            self.app,
            tokens,
            self.passwords,
            self.ledger,
            self.api_keys,
            external=ExternalStrategy(identities, KeySets(self.outbound.get)),
            sessions=self.connections,
        )
        self.logins = Logins(
            self.connections,
            self.authentication,
            directory=directory,
            tokens=tokens,
            signing=backend.keys,
            sessions=self.ledger,
            keys=self.api_keys,
        )
        self.catalogue.on_change(self.logins.follow_tenant)
        self.changes = Changes(
            deployment,
            database=settings.database,
            updates=CHANGING,
            deletions=ENDING,
        )
        self.app.authenticator = self.authentication.authenticate
        self.app.use(
            "authentication",
            self.authentication,
            rules=AUTHENTICATION_RULES,
            hooks={
                "around": {"create": [limit(attempts, login_attempt)]},
                "before": {"all": [silence]},
                "after": {"create": [self._tell_login], "remove": [self._tell_logout]},
            },
        )
        users = self.app.use(
            "users",
            UsersService(isolation, self.app.asked_fields),
            rules=USERS_RULES,
            hooks=users_hooks(self.passwords),
        )
        users.add_hooks({"around": {"create": [limit(attempts, sign_up_attempt)]}})
        users.add_hooks(session_hooks(self.ledger, identities))
        for event in ("patched", "updated", "removed"):
            users.on(event, self._follow_user)
        quiet: HooksByKind = {"before": {"all": [silence]}}
        self.app.use(sessions.PATH, sessions.SessionsService(self.ledger), rules=sessions.SESSIONS_RULES, hooks=quiet)
        keys_service = ApiKeysService(self.api_keys, directory)
        self.app.use(API_KEYS, keys_service, rules=API_KEYS_RULES, hooks=quiet)
        self.outbox = Outbox(_mailer(settings))
        self.errands = Errands("accounts", at_once=8, most=1000)
        account_tokens = AccountTokens(isolation)
        letters = Letters(self.outbox, account_tokens)
        users.add_hooks(account_hooks(account_tokens, letters, self.errands))
        self.app.use(
            ACCOUNTS,
            AccountsService(
                self.app, account_tokens, letters, self.errands, self.passwords, asked=self.app.asked_fields
            ),
            rules={"create": "public"},
            hooks={"around": {"create": [limit(attempts, account_attempt)]}, "before": {"all": [silence]}},
        )
        watch_services(self.app, backend.audit)
        self.app.use(AUDIT_LOG, AuditLogService(isolation), rules=AUDIT_RULES, hooks=quiet)
        self.app.use(rooms.PATH, rooms.RoomsService(self.app), rules="public", hooks={"before": {"all": [silence]}})
        self.engine = Engine(
            Sockets(self.app, self.catalogue, self.connections, self.authentication, self.addresses),
            Options(max_connections=settings.max_connections),
        )
        self.pages = Pages(settings.example)
        self.port = settings.port

    @classmethod
    async def start(
        cls, settings: Settings, declaration: Declaration | None = None, *, listeners: Sequence[Any] = ()
    ) -> Roost:
        """Starts everything, applies the declaration, and listens.

        Raises:
            StartError: no MongoDB, no master key, a taken port, or a module that does not configure.
            FeathersError: the database refuses.
        """
        async with AsyncExitStack() as stack:
            backend = await stack.enter_async_context(open_backend(settings, listeners))
            if declaration is not None:
                for change in await backend.apply(declaration):
                    log.info("applied", tenant=change.tenant, outcome=change.outcome, withdrawn=change.withdrawn)
            roost = cls(backend, stack)
            for module in settings.modules:
                await configure(roost.app, module)
            await roost._listen(stack)
            roost._resources = stack.pop_all()
            return roost

    async def stop(self) -> None:
        """Stops listening, closes the sockets, and gives back the database. May be called more than once."""
        await self._resources.aclose()

    async def drop(self) -> None:
        """Stops, and deletes all that was kept: for tests and trials."""
        await self.backend.audit.stop()
        client = self.backend.deployment.client
        names = (self.settings.database, control_database(self.settings.database))
        await asyncio.gather(*(client.drop_database(name) for name in names))
        await self.stop()

    @property
    def url(self) -> str:
        """Where the server listens."""
        return f"http://{self.settings.host}:{self.port}"

    def welcome(self) -> str:
        """What to do next, for a person at a terminal."""
        tenants = ", ".join(sorted(self.catalogue.known())) or "none yet: python -m server apply FILE"
        example = f"{self.url}/example/" if self.pages.has_example else "run npm ci in client-example first"
        return (
            f"\nRoost listens on {self.url}\n"
            f"  health   {self.url}/health\n  docs     {self.url}/docs\n"
            f"  example  {example}\n"
            f"  appIds   {tenants}\n\nCtrl-C stops it.\n"
        )

    async def wait_for_signal(self) -> None:
        """Returns at SIGINT or SIGTERM."""
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopped.set)
        await stopped.wait()
        log.info("stopping")

    async def _listen(self, stack: AsyncExitStack) -> None:
        stack.callback(self.passwords.close)
        stack.push_async_callback(self.outbox.stop)
        stack.push_async_callback(self.errands.stop)
        await self.catalogue.start()
        stack.push_async_callback(self.catalogue.stop)
        await self.catalogue.load_all()
        await self.backend.tenants.prepare_own_collections()
        stack.callback(self.logins.close)
        await self.logins.watch_keys()
        await self.changes.start(self.logins.hear, self.logins.review)
        stack.push_async_callback(self.changes.stop)
        stack.push_async_callback(self.outbound.close)
        await self.app.setup()
        stack.push_async_callback(self.app.teardown)
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

    async def _drain(self, listener: Listener) -> None:
        """Takes nothing new, lets running calls end, and closes the sockets a few at a time."""
        await listener.stop_accepting()
        await self.engine.drain(LAST_CALLS)
        await self.engine.close()

    def _web_app(self) -> web.Application:
        web_app = web.Application(client_max_size=MAX_BODY)
        self.engine.attach(web_app)
        web_app.on_response_prepare.append(PollingOrigins(self.catalogue))
        health = Health(self.backend.deployment, self.connections)
        web_app.router.add_get("/health", health.health)
        web_app.router.add_get("/ready", health.ready)
        web_app.router.add_get("/.well-known/jwks.json", Jwks(self.catalogue, self.backend.keys).handle)
        self.pages.attach(web_app)
        Documents(self.app, self.catalogue).attach(web_app)
        web_app.router.add_route(
            "*", r"/{path:[\s\S]*}", Rest(self.app, self.catalogue, self.connections, self.addresses).handle
        )
        return web_app

    def _tell_login(self, context: HookContext) -> None:
        if context.params.provider is not None:
            self.app.happen("login", context.result, context.params)

    def _tell_logout(self, context: HookContext) -> None:
        if context.params.provider is not None:
            self.app.happen("logout", context.result, context.params)

    async def _follow_user(self, user: Any, context: HookContext) -> None:
        """Live connections see their user's changes at once, and a removed user is logged out."""
        await self.logins.follow_user(context.tenant.id, user, removed=context.method == "remove")


TENANCY_HOOKS: dict[str, Any] = {
    "before": {
        "all": [enforce_app_id],
        "create": [inject_app_id],
        "update": [inject_app_id],
        "patch": [inject_app_id],
    }
}
"""Around every service of every tenant."""


def silence(context: HookContext) -> None:
    """A before hook: the call sends no event."""
    context.event = None


async def configure(app: Application, module: str) -> None:
    """Lets a module add its services and hooks by its `configure(app)`, which may be async.

    Raises:
        StartError: it cannot be imported, or has no such function.
    """
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise StartError(f"ROOST_MODULES: '{module}' cannot be imported: {error}") from error
    if not callable(getattr(found, "configure", None)):
        raise StartError(f"ROOST_MODULES: '{module}' does not define configure(app)")
    outcome = found.configure(app)
    if inspect.isawaitable(outcome):
        await outcome


def _mailer(settings: Settings) -> Mailer:
    url = None if settings.smtp_url is None else settings.smtp_url.get_secret_value()
    try:
        return choose_mailer(url, settings.mail_from, settings.data / "mail")
    except ValueError as error:
        raise StartError(str(error)) from error


def _master_key(settings: Settings) -> MasterKey:
    if settings.master_key is not None:
        try:
            return MasterKey.parse(settings.master_key.get_secret_value())
        except ValueError as error:
            raise StartError(f"ROOST_MASTER_KEY: {error}") from error
    if settings.mongodb_uri is not None:
        raise StartError(
            "ROOST_MASTER_KEY must be set with ROOST_MONGODB_URI: it opens the signing keys in that database. "
            "Make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    try:
        return MasterKey.in_directory(settings.data)
    except OSError as error:
        raise StartError(f"{settings.data}: the master key cannot be kept there ({error.strerror})") from error
