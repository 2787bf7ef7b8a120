"""The models `database` and `cluster`: a database of the tenant's own, on a cluster that the server names, or on its own one.

On a cluster with access control, `database` gets a user of its own that can read and write this database and nothing else:
then MongoDB itself keeps the tenants apart, against mistakes of the application too.
"""

from __future__ import annotations

import json
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import parse_qsl, quote, urlencode

import structlog

from hooks.errors import Unavailable
from hooks.tenant import Placement, Tenant
from services.database.deployment import Deployment
from services.database.faults import DRIVER_ERRORS, from_driver
from services.database.schema import CollectionSchema
from services.placement import meta
from services.placement.clients import OWN, Address, Clients
from services.placement.pools import Room, room
from services.placement.provider import Handle, unavailable
from services.placement.shared import purge

log = structlog.get_logger()

DEFAULT = "default"
"""The cluster that `ROOST_MONGODB_URI` names."""
USER = "user."
"""Stands before a database's name in the name of the secret that its user's name and password are kept in."""
MOST_CREDENTIALS = 10_000
_LONGEST_NAME = 50


class Sealed(Protocol):
    """A secret's value."""

    @property
    def version(self) -> int: ...

    @property
    def value(self) -> str: ...


class Credentials(Protocol):
    """Where the tenants' secrets are kept."""

    async def get(self, app_id: str, name: str) -> Sealed | None:
        """The newest value."""
        ...

    async def put(self, app_id: str, name: str, value: str) -> int:
        """Keeps a value; its version."""
        ...

    async def forget(self, app_id: str, name: str | None = None) -> bool:
        """Deletes it."""
        ...


def fresh_name(app_id: str) -> str:
    """A database's name that no other tenant and no earlier database of this one has (DB-2)."""
    return f"t_{app_id[:_LONGEST_NAME]}_{secrets.token_hex(3)}"


class DedicatedProvider:
    """What both models do: `_address` says where."""

    def __init__(self, clients: Clients, credentials: Credentials, *, pool_size: int) -> None:
        self._clients = clients
        self._credentials = credentials
        self._pool_size = pool_size
        self._known: OrderedDict[tuple[str, str], tuple[int, Sealed]] = OrderedDict()

    @asynccontextmanager
    async def handle(self, tenant: Tenant, placement: Placement) -> AsyncIterator[Handle]:
        """See `TenantDatabaseProvider`."""
        async with self._lease(await self._address(tenant, placement)) as deployment:
            yield Handle(deployment, placement.database)

    @asynccontextmanager
    async def administer(self, tenant: Tenant, placement: Placement) -> AsyncIterator[Handle]:
        """See `TenantDatabaseProvider`."""
        async with self._lease(await self._administration(tenant, placement)) as deployment:
            yield Handle(deployment, placement.database)

    async def provision(self, tenant: Tenant, placement: Placement, schemas: Iterable[CollectionSchema]) -> Placement:
        """See `TenantDatabaseProvider`."""
        async with self.administer(tenant, placement) as handle:
            await meta.claim(handle.raw, tenant.id)
            placed = await self._provision_user(handle, tenant, placement)
            await handle.ensure(schemas)
        return placed

    async def deprovision(self, tenant: Tenant, placement: Placement) -> int:
        """See `TenantDatabaseProvider`."""
        async with self.administer(tenant, placement) as handle:
            found = await meta.read(handle.raw)
            if found is None:
                return 0
            meta.check_owner(found, tenant.id)
            await meta.mark(handle.raw, deleted_at=datetime.now(UTC))
            purged = await purge(handle.raw, tenant.id)
            await self._drop(handle, tenant, placement)
        return purged

    async def ping(self, tenant: Tenant, placement: Placement) -> bool:
        """See `TenantDatabaseProvider`."""
        async with self.handle(tenant, placement) as handle:
            return await handle.deployment.ping()

    async def _address(self, tenant: Tenant, placement: Placement) -> Address:
        raise NotImplementedError

    async def _administration(self, tenant: Tenant, placement: Placement) -> Address:
        return await self._address(tenant, placement)

    async def _provision_user(self, handle: Handle, tenant: Tenant, placement: Placement) -> Placement:
        return placement

    async def _drop(self, handle: Handle, tenant: Tenant, placement: Placement) -> None:
        try:
            await handle.deployment.client.drop_database(placement.database)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    def _lease(self, address: Address) -> AbstractAsyncContextManager[Deployment]:
        return self._clients.lease(address)

    async def _secret(self, tenant: Tenant, name: str) -> Sealed:
        """A secret of the tenant. It is looked up once for each of the tenant's epochs: a change of secrets raises that."""
        key = (tenant.id, name)
        known = self._known.get(key)
        if known is not None and known[0] == tenant.epoch:
            return known[1]
        found = await self._credentials.get(tenant.id, name)
        if found is None:
            raise unavailable("The app's database cannot be opened: its credentials are missing")
        self._known[key] = (tenant.epoch, found)
        self._known.move_to_end(key)
        while len(self._known) > MOST_CREDENTIALS:
            self._known.popitem(last=False)
        return found


class DatabaseProvider(DedicatedProvider):
    """`database`: a database of its own on a named cluster, by the cluster's client or by a user of its own."""

    def __init__(
        self,
        default: Deployment,
        clusters: Mapping[str, str],
        clients: Clients,
        credentials: Credentials,
        *,
        uri: str,
        pool_size: int,
        cluster_pool_size: int,
    ) -> None:
        """`clusters` are URIs by name; `uri` is that of the default one, whose open deployment is `default`."""
        super().__init__(clients, credentials, pool_size=pool_size)
        self._default = default
        self._uris = {**clusters, DEFAULT: uri}
        self.clusters = frozenset(self._uris)
        """The names of the clusters that may be placed on."""
        self._cluster_pool_size = cluster_pool_size

    async def rooms(self, *, processes: int, factor: int) -> list[Room]:
        """What the clusters have for so many processes; those that cannot be reached are left out.

        `factor` is how many pools a client has for each server.
        """
        found = []
        for name in self._uris:
            try:
                async with self._lease(self._shared_address(Placement("database", name))) as deployment:
                    size = factor * self._cluster_pool_size
                    found.append(await room(name, deployment, size=size, processes=processes))
            except Unavailable:
                log.warning("a cluster cannot be reached", cluster=name)
        return found

    async def _address(self, tenant: Tenant, placement: Placement) -> Address:
        if placement.credentials_ref is None:
            return self._shared_address(placement)
        sealed = await self._secret(tenant, placement.credentials_ref)
        login = json.loads(sealed.value)
        uri = with_user(self._uri(placement), login["user"], login["password"], placement.database)
        return Address(f"{placement.cluster}/{tenant.id}/{sealed.version}", uri, self._pool_size)

    async def _administration(self, tenant: Tenant, placement: Placement) -> Address:
        return self._shared_address(placement)

    def _shared_address(self, placement: Placement) -> Address:
        return Address(placement.cluster, self._uri(placement), self._cluster_pool_size)

    def _uri(self, placement: Placement) -> str:
        uri = self._uris.get(placement.cluster)
        if uri is None:
            raise unavailable("The app's data is kept on a cluster that this server does not know.")
        return uri

    @asynccontextmanager
    async def _lease_default(self) -> AsyncIterator[Deployment]:
        yield self._default

    def _lease(self, address: Address) -> AbstractAsyncContextManager[Deployment]:
        return self._lease_default() if address.key == DEFAULT else super()._lease(address)

    async def _provision_user(self, handle: Handle, tenant: Tenant, placement: Placement) -> Placement:
        """Makes the user by whom alone this database is used, where the cluster asks who comes."""
        try:
            status = await handle.deployment.client.admin.command("connectionStatus")
            if not status["authInfo"]["authenticatedUsers"]:
                return placement
            secret = USER + placement.database
            known = await self._credentials.get(tenant.id, secret)
            if known is None:
                login = {"user": placement.database, "password": secrets.token_urlsafe(32)}
                await self._credentials.put(tenant.id, secret, json.dumps(login))
            else:
                login = json.loads(known.value)
            await _ensure_user(handle.raw, login, placement.database)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        return replace(placement, credentials_ref=secret)

    async def _drop(self, handle: Handle, tenant: Tenant, placement: Placement) -> None:
        try:
            await handle.raw.command("dropAllUsersFromDatabase")
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        # Before the database, whose end says that nothing is left to do; also where a move did not come to note the name.
        await self._credentials.forget(tenant.id, USER + placement.database)
        await super()._drop(handle, tenant, placement)


class ClusterProvider(DedicatedProvider):
    """`cluster`: a deployment of the tenant's own, by the connection string that one of its secrets holds."""

    async def _address(self, tenant: Tenant, placement: Placement) -> Address:
        if placement.credentials_ref is None:
            raise unavailable("The app's cluster cannot be opened: no secret of it holds a connection string")
        sealed = await self._secret(tenant, placement.credentials_ref)
        key = f"{OWN}/{tenant.id}/{placement.credentials_ref}/{sealed.version}"
        return Address(key, sealed.value, self._pool_size)


async def _ensure_user(raw: Any, login: Mapping[str, str], database: str) -> None:
    roles = [{"role": "readWrite", "db": database}]
    wanted = {"pwd": login["password"], "roles": roles}
    found = await raw.command("usersInfo", login["user"])
    verb = "updateUser" if found["users"] else "createUser"
    await raw.command({verb: login["user"], **wanted})


def with_user(uri: str, user: str, password: str, source: str) -> str:
    """The URI with another user, who is one of the database `source`."""
    scheme, _, rest = uri.partition("://")
    place, _, options = rest.partition("?")
    hosts = place.partition("/")[0].rpartition("@")[2]
    kept = [(name, value) for name, value in parse_qsl(options) if name.lower() not in ("authsource", "authmechanism")]
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return f"{scheme}://{login}@{hosts}/?{urlencode([*kept, ('authSource', source)])}"
