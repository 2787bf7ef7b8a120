"""Where the tenants of these tests are: by the isolation model under test, through the providers that the server has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from uuid import uuid4

from hooks.context import Params
from hooks.tenant import Placement, Tenant
from services.control.secrets import Secret
from services.database.deployment import Deployment, Path
from services.database.schema import CollectionSchema, Index, Words
from services.isolation import Isolation
from services.placement.clients import Address, Clients
from services.placement.dedicated import ClusterProvider, DatabaseProvider, fresh_name
from services.placement.placements import SHARED, Placements
from services.placement.shared import SharedProvider
from tests.support.placed import CLUSTERS, default_model
from tests.support.roost import COMMAND_PATH

Ask = Callable[..., Params]

DATABASE = "test_services"
TODOS = CollectionSchema("todos", (Index((("app_id", 1), ("customid", 1)), unique=True), Words()))
POOL = 10
_STRING = "mongodb"


def asker(name: str, model: str | None = None) -> Ask:
    """Calls of a client in a tenant of its own, kept by this isolation model or by that under test."""
    tenant = Tenant(f"{name}-{uuid4().hex}", name, placement=_place(name, model or default_model[0]))

    def ask(query: dict[str, Any] | None = None, provider: str | None = "socketio") -> Params:
        return Params(tenant=tenant, query=query or {}, provider=provider)

    return ask


def _place(name: str, model: str) -> Placement:
    if model == "database":
        return Placement(model, database=fresh_name(name))
    if model == "cluster":
        return Placement(model, database=fresh_name(name), credentials_ref=_STRING)
    return Placement(database=DATABASE)


class OneCluster:
    """The `Credentials` of tenants that all have the same cluster."""

    async def get(self, app_id: str, name: str) -> Secret | None:
        """The connection string."""
        return Secret(1, CLUSTERS.uri("own")) if name == _STRING else None

    async def put(self, app_id: str, name: str, value: str) -> int:
        """Nobody asks who comes on these clusters, so no users are made."""
        raise NotImplementedError

    async def forget(self, app_id: str, name: str | None = None) -> bool:
        """There is nothing of theirs to forget."""
        return False


class Places:
    """The databases of some tenants, in which `todos` has been brought about."""

    def __init__(self, deployment: Deployment, placements: Placements) -> None:
        self.placements = placements
        self.isolation = Isolation(deployment, placements)

    async def explain(self, tenant: Tenant, command: dict[str, Any]) -> Any:
        """How mongod runs a command on the tenant's database."""
        async with self.placements.administer(tenant) as handle:
            return await handle.raw.command({"explain": command, "verbosity": "executionStats"})


@asynccontextmanager
async def places(
    uri: str, askers: Sequence[Ask], *, path: Path = COMMAND_PATH, listeners: Sequence[Any] = ()
) -> AsyncIterator[Places]:
    """The databases of those who ask; those of their own are dropped with the block."""
    make = partial(_deployment, path, listeners)
    deployment = make(Address("default", uri, POOL))
    await deployment.open()
    clients = Clients(make)
    placements = Placements(
        {
            SHARED: SharedProvider(deployment, database=DATABASE),
            "database": DatabaseProvider(
                deployment, {}, clients, OneCluster(), uri=uri, pool_size=POOL, cluster_pool_size=POOL
            ),
            "cluster": ClusterProvider(clients, OneCluster(), pool_size=POOL),
        },
        [TODOS],
    )
    tenants = [ask().tenant for ask in askers]
    try:
        for tenant in tenants:
            await placements.provision(tenant, tenant.placement)
        yield Places(deployment, placements)
        for tenant in tenants:
            if tenant.placement.model != SHARED:
                await placements.provider(tenant.placement).deprovision(tenant, tenant.placement)
    finally:
        await clients.close()
        await deployment.close()


def _deployment(path: Path, listeners: Sequence[Any], address: Address) -> Deployment:
    return Deployment(address.uri, pool_size=address.pool_size, path=path, event_listeners=listeners)
