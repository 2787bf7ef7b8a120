"""The backend: what lies below the transports, and is shared with the command line."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

import structlog

from hooks.errors import BadRequest, Conflict, FeathersError
from hooks.password import Hasher
from hooks.tenant import Tenant
from server.control import Control
from server.inheritance import Inheritance
from server.mailing import mailers, platform_mailer
from server.outbound import Outbound
from server.settings import Settings, named_clusters
from services.audit import Audit
from services.audited import note_applied
from services.authentication.keys import Keys
from services.authentication.master import MasterKey
from services.control.backup.backup import Backup
from services.control.configuration import Configuration
from services.control.domains import Domains
from services.control.founding import AnotherControlPlane
from services.control.jobs import MongoJobStore
from services.control.keys import MongoKeyStore
from services.control.moves.entry import Entries as MoveEntries
from services.control.moves.moves import Moves
from services.control.moves.steps import MoveSteps
from services.control.moves.switch import Switch
from services.control.moving import Moving
from services.control.nodes import Nodes
from services.control.own_rules import OwnRules
from services.control.provider_rules import ProviderRules
from services.control.providers import ProviderFactory
from services.control.rates import MongoQuotaStore, MongoRateStore
from services.control.secrets import Secrets
from services.control.self_test import try_guards
from services.control.services.provider_settings import ProviderSettings
from services.control.sync.engine import Sync
from services.control.sync.outbox import Outbox
from services.control.tails import Tails
from services.control.tenants import Change, Tenants
from services.database.deployment import Deployment
from services.database.embedded import EmbeddedMongod, EmbeddedMongodError
from services.declaration import Declaration
from services.drivers import Drivers
from services.isolation import Isolation
from services.mail.drivers import register_mail
from services.mail.message import PlatformMailer
from services.placement.clients import Address, Clients
from services.placement.dedicated import DEFAULT, ClusterProvider, DatabaseProvider
from services.placement.pools import Usage, usage

log = structlog.get_logger()


class StartError(Exception):
    """The server cannot start; the sentence says what to do."""


class Backend:
    """What lies below the transports and is shared with the command line: the database, the keys and the tenants."""

    def __init__(
        self, settings: Settings, deployment: Deployment, master: MasterKey, *, uri: str, listeners: Sequence[Any] = ()
    ) -> None:
        """`deployment` is open, by this URI."""
        self.settings = settings
        self.at_end = AsyncExitStack()
        """What is done with the database when all that works in the background has ended."""
        self.client_id: str | None = None
        """Of the control plane's own front end, if a plug-in has named it."""
        self.deployment = deployment
        self.master = master
        self.key_store = MongoKeyStore(deployment, database=settings.database)
        self.keys = Keys(self.key_store, master)
        outbox = Outbox(deployment, database=settings.database)
        self.tenants = Tenants(
            deployment, database=settings.database, reserved=settings.reserved_ids, look_at=outbox.look_at
        )
        self.secrets = Secrets(deployment, master, self.tenants, database=settings.database)
        self.outbound = Outbound(allow_private=settings.outbound_private)
        self.platform_mailer = _platform_mailer(settings)
        self.drivers = Drivers()
        register_mail(self.drivers, connect=self.outbound.connect, folder=settings.data / "mail")
        self.configuration = Configuration(
            deployment,
            database=settings.database,
            control_plane=settings.control_plane,
            providers=ProviderRules(
                self.drivers,
                control_plane=partial(self.tenants.get, settings.control_plane),
                sender=self.platform_mailer.sender,
            ),
            look_at=outbox.look_at,
        )
        self.own_rules = OwnRules(deployment, database=settings.database)
        self.tails = Tails(deployment, database=settings.database)
        self.job_store = MongoJobStore(deployment, database=settings.database)
        self.rate_store = MongoRateStore(deployment, database=settings.database)
        self.quota_store = MongoQuotaStore(deployment, database=settings.database)
        self.domains = Domains(deployment, database=settings.database)
        self.clients = Clients(partial(_deployment, settings, listeners))
        self.writes = self.tenants.writes
        self.placements = self.tenants.placements
        self._own_databases = _own_databases(settings, deployment, self.clients, self.secrets, uri=uri)
        self.placements.register("database", self._own_databases)
        own_clusters = ClusterProvider(self.clients, self.secrets, pool_size=settings.dedicated_pool)
        self.placements.register("cluster", own_clusters)
        self.tenants.credentials = self.secrets
        self.isolation = Isolation(deployment, self.placements, self.writes, outbox)
        self.nodes = Nodes(deployment, database=settings.database, lease=settings.node_lease)
        self.moving = Moving(deployment, self.nodes, self.writes, database=settings.database)
        self.audit = Audit(self.isolation, days=settings.audit_days)
        self.control = Control(
            settings, deployment, self.tenants, self.keys, self.audit, isolation=self.isolation, nodes=self.nodes
        )
        self.sync = self._sync(settings, outbox)
        self.moves = self.control.moves = self._moves(deployment, settings.database)
        self.inheritance = Inheritance(
            self.isolation,
            self.tenants,
            self.control.sagas,
            control_plane=settings.control_plane,
            development=settings.mongodb_uri is None,
        )
        self.backup = Backup(
            deployment, self.placements, self.tenants, self.control.lifecycle, database=settings.database
        )
        self.providers = ProviderFactory(self.drivers, self.secrets, control_plane=self.inheritance.control_plane)
        self.provider_settings = ProviderSettings(
            self.drivers,
            self.providers,
            self.configuration,
            tenants=self.tenants,
            secrets=self.secrets,
            own=self.inheritance.own,
        )
        self.mailers = mailers(self.providers, self.inheritance.effective, self.platform_mailer)

    def _sync(self, settings: Settings, outbox: Outbox) -> Sync:
        wanted = settings.sync
        try:
            switches = wanted.switches()
        except (ImportError, AttributeError, ValueError) as error:
            raise StartError(f"ROOST_SYNC: should_sync cannot be had: {error}") from error
        sync = Sync(
            self.deployment,
            self.isolation,
            outbox,
            database=settings.database,
            control_plane=settings.control_plane,
            switches=switches,
            at_once=wanted.at_once,
            attempts=wanted.attempts,
        )
        sync.hand_in(self.control.sagas)
        return sync

    def _moves(self, deployment: Deployment, database: str) -> Moves:
        entries = MoveEntries(deployment, database=database)
        control = self.control
        MoveSteps(
            self.tenants,
            control.operations,
            entries,
            placements=self.placements,
            switch=Switch(entries, self.nodes),
            audit=self.audit,
        ).hand_in(control.sagas)
        return Moves(
            self.tenants,
            control.operations,
            control.runner,
            control.sagas,
            entries=entries,
            placements=self.placements,
            database=database,
        )

    async def check_rooms(self) -> None:
        """Compares what the servers may ask of the clusters with what these have (PO-4).

        Raises:
            StartError: a cluster does not even take the connections that this server may open.
        """
        nodes = len(await self.nodes.all())
        # The lean path has a pool of its own beside the driver's.
        factor = 2 if self.settings.mongo_path == "lean" else 1
        for room in await self._own_databases.rooms(processes=max(1, nodes), factor=factor):
            if room.is_too_small:
                raise StartError(
                    f"ROOST_MONGO_POOL: this server may open {room.own} connections to the cluster '{room.cluster}', "
                    f"which takes {room.available}: name a smaller pool, or let the cluster take more"
                )
            if room.is_tight:
                log.warning("all servers may ask for more connections than there are", **asdict(room))

    def pools(self) -> dict[str, Usage]:
        """The connections of this process by cluster (PO-4)."""
        return usage([(DEFAULT, self.deployment), *self.clients.by_cluster])

    def check_placement(self) -> None:
        """Looks whether new apps can be where the setting says; plug-ins have registered their models by then.

        Raises:
            StartError: they cannot.
        """
        wanted = self.settings.placement
        if wanted is None:
            return
        try:
            self.placements.check(wanted.model, wanted.cluster)
        except BadRequest as error:
            raise StartError(f"ROOST_PLACEMENT: {error.message}") from error

    async def found(self) -> Tenant:
        """The control plane's tenant, made if there is none yet.

        Raises:
            StartError: the database has a control plane of another id, or an app of this one.
        """
        try:
            plane = await self.control.founding.ensure_tenant()
        except AnotherControlPlane as error:
            raise StartError(
                f"ROOST_CONTROL_PLANE: this database's control plane is '{error}', not '{self.settings.control_plane}'"
            ) from error
        except Conflict as error:
            raise StartError(f"ROOST_CONTROL_PLANE: {error.message}") from error
        if self.client_id is not None:
            try:
                await self.control.provisioning.ensure_client(plane, self.client_id, id=self.client_id)
            except Conflict as error:
                raise StartError(f"multi_tenancy(control_plane=...): client_id: {error.message}") from error
        return plane

    async def apply(self, declaration: Declaration, patience: float | None = None) -> list[Change]:
        """Applies a declaration, and leaves word of it in the logs of the tenants that it changes.

        `patience` is for how many seconds new tenants are waited for; without it, as long as the lifecycle does.
        """
        before = {declared.id: await self.tenants.get(declared.id) for declared in declaration.tenants}
        changes = await self.control.lifecycle.apply(declaration, patience=patience)
        plane = await self.tenants.get(self.settings.control_plane)
        for change in changes:
            tenant = await self.tenants.get(change.tenant)
            if tenant is not None and change.outcome != "unchanged":
                note_applied(self.audit, change, before[change.tenant], tenant, plane)
        return changes


@asynccontextmanager
async def open_backend(
    settings: Settings, listeners: Sequence[Any] = (), *, joins: bool = True
) -> AsyncIterator[Backend]:
    """The backend of these settings, with the embedded mongod started or joined when no URI is set.

    `listeners` hear of every database command. Who does not join the nodes must not write to tenants' data.

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
        deployment = _deployment(settings, listeners, Address(DEFAULT, uri, settings.mongo_pool))
        try:
            await deployment.open()
        except FeathersError as error:
            if settings.mongodb_uri is None:
                raise
            raise StartError(f"ROOST_MONGODB_URI: {error.message}") from error
        stack.push_async_callback(deployment.close)
        backend = Backend(settings, deployment, master, uri=uri, listeners=listeners)
        stack.push_async_callback(backend.clients.close)
        await stack.enter_async_context(backend.at_end)
        # Side by side: each waits for the database's journal.
        await asyncio.gather(
            *(
                store.prepare()
                for store in (
                    backend.tenants,
                    backend.control.operations,
                    backend.sync,
                    backend.key_store,
                    backend.secrets,
                    backend.tails,
                    backend.job_store,
                    backend.rate_store,
                    backend.quota_store,
                    backend.domains,
                    backend.nodes,
                )
            )
        )
        if joins:
            stack.push_async_callback(backend.moving.stop)
            await backend.moving.start()
        stack.push_async_callback(backend.audit.stop)
        stack.push_async_callback(backend.control.runner.stop)
        stack.push_async_callback(backend.providers.close)
        yield backend


def _own_databases(
    settings: Settings, deployment: Deployment, clients: Clients, secrets: Secrets, *, uri: str
) -> DatabaseProvider:
    clusters = {} if settings.clusters is None else named_clusters(settings.clusters.get_secret_value())
    return DatabaseProvider(
        deployment,
        clusters,
        clients,
        secrets,
        uri=uri,
        pool_size=settings.dedicated_pool,
        cluster_pool_size=settings.mongo_pool,
    )


def _deployment(settings: Settings, listeners: Sequence[Any], address: Address) -> Deployment:
    return Deployment(
        address.uri,
        max_time_ms=settings.query_time,
        pool_size=address.pool_size,
        path=settings.mongo_path,
        event_listeners=listeners,
    )


def _platform_mailer(settings: Settings) -> PlatformMailer:
    try:
        return platform_mailer(settings)
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


async def check_guards(backend: Backend, tenant: Tenant) -> None:
    """Tries what the guards must refuse, unless the settings say not to.

    Raises:
        StartError: something went through.
    """
    faults = await try_guards(backend.deployment, backend.isolation, tenant) if backend.settings.self_test else []
    if faults:
        raise StartError(f"The self-test has failed, so nothing is served: {'; '.join(faults)}")


async def make_admin(backend: Backend, control_plane: Tenant, hasher: Hasher) -> str | None:
    """Makes the control plane's first user at the first start; his password, if it had to be made up.

    Raises:
        StartError: the name or the password of the settings cannot be one.
    """
    given = backend.settings.admin_password
    password = secrets.token_urlsafe(18) if given is None else given.get_secret_value()
    try:
        is_new = await backend.control.founding.ensure_admin(
            control_plane, backend.settings.admin_username, password, hasher
        )
    except BadRequest as error:
        raise StartError(f"ROOST_ADMIN_USERNAME and ROOST_ADMIN_PASSWORD: {error.message}") from error
    if not is_new:
        return None
    backend.audit.add(control_plane, "admin-made", subject=backend.settings.admin_username, details={"by": "server"})
    return password if given is None else None
