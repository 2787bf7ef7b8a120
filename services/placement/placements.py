"""Placements: from a tenant to the database that holds its records, by the provider of its isolation model."""

from __future__ import annotations

import asyncio
import weakref
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from hooks.errors import BadRequest, Unavailable
from hooks.tenant import Placement, Tenant
from services.database.deployment import Deployment
from services.database.schema import CollectionSchema, are_guarded
from services.placement import meta
from services.placement.provider import Handle, TenantDatabaseProvider, unavailable
from services.store import Collection, Document, Filter, Namespace, Sort

_T = TypeVar("_T")

SHARED = "shared"
MOST_VERIFIED = 10_000
"""Databases of which it is remembered that they are the tenant's; the least recently verified is looked at again."""


class Placements:
    """The providers by model, and what this process knows of the databases they give."""

    def __init__(self, providers: Mapping[str, TenantDatabaseProvider], own: Iterable[CollectionSchema] = ()) -> None:
        """`own` are the collections that every tenant's database has, whatever the tenant declares."""
        self._providers = dict(providers)
        self._own: dict[str, CollectionSchema] = {schema.name: schema for schema in own}
        self._verified: OrderedDict[tuple[str, Placement], weakref.ref[Deployment]] = OrderedDict()
        self._verifying: dict[tuple[str, Placement], asyncio.Task[None]] = {}

    @property
    def own(self) -> tuple[CollectionSchema, ...]:
        """The collections that every tenant's database has."""
        return (*self._own.values(),)

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the isolation models that there are."""
        return (*self._providers,)

    def register(self, model: str, provider: TenantDatabaseProvider) -> None:
        """Adds an isolation model.

        Raises:
            ValueError: there is one of that name.
        """
        if model in self._providers:
            raise ValueError(f"There is an isolation model '{model}' already")
        self._providers[model] = provider

    def include(self, schema: CollectionSchema) -> None:
        """Adds a collection that every tenant's database has; databases that are in use get it at their next use."""
        self._own[schema.name] = schema
        self._verified.clear()

    def provider(self, placement: Placement) -> TenantDatabaseProvider:
        """The provider of a placement's model.

        Raises:
            Unavailable: there is none.
        """
        found = self._providers.get(placement.model)
        if found is None:
            raise unavailable("The app's data is kept in a way that this server does not know")
        return found

    def check(self, model: str, cluster: str) -> None:
        """Lets through where a new tenant's data may be.

        Raises:
            BadRequest: there is no such model, or it knows no such cluster.
        """
        if model not in self._providers:
            raise BadRequest(f"There is no isolation model '{model}': there are {', '.join(self.models)}")
        known: frozenset[str] | None = getattr(self._providers[model], "clusters", None)
        if known is not None and cluster not in known:
            raise BadRequest(f"There is no cluster '{cluster}': there are {', '.join(sorted(known))}")

    @asynccontextmanager
    async def handle(self, tenant: Tenant, placement: Placement | None = None) -> AsyncIterator[Handle]:
        """The tenant's database, of which it is certain that it is the tenant's.

        Raises:
            Unavailable: it cannot be had. It is never another one instead.
        """
        place = tenant.placement if placement is None else placement
        async with self.provider(place).handle(tenant, place) as handle:
            if place.model != SHARED:
                verified = self._verified.get((tenant.id, place))
                if verified is None or verified() is not handle.deployment:
                    await self._verify(tenant, place, handle)
            yield handle

    @asynccontextmanager
    async def administer(self, tenant: Tenant, placement: Placement | None = None) -> AsyncIterator[Handle]:
        """The tenant's database with the rights to bring collections about, to copy and to drop; verified as by `handle`."""
        place = tenant.placement if placement is None else placement
        async with self.provider(place).administer(tenant, place) as handle:
            if place.model != SHARED:
                meta.check_owner(await meta.read(handle.raw), tenant.id)
            yield handle

    async def ensure(self, tenant: Tenant, schemas: Iterable[CollectionSchema]) -> None:
        """Brings collections about in the tenant's database."""
        async with self.administer(tenant) as handle:
            await handle.ensure(schemas)

    def collection(self, tenant: Tenant, placement: Placement, name: str) -> Collection:
        """A collection of the tenant's database; nothing is sent, and nothing opened, before it is used."""
        return PlacedCollection(self, tenant, placement, name)

    async def provision(
        self, tenant: Tenant, placement: Placement, schemas: Iterable[CollectionSchema] = ()
    ) -> Placement:
        """Brings a tenant's database about, with all collections that it needs; the placement to keep.

        Raises:
            Unavailable: it cannot be reached, or is another tenant's.
        """
        wanted = merged((*self.own, *schemas))
        placed = await self.provider(placement).provision(tenant, placement, wanted)
        if placement.model != SHARED:
            async with self.provider(placement).administer(tenant, placement) as handle:
                await meta.mark(handle.raw, schemas=meta.fingerprint(self.own))
        return placed

    async def _verify(self, tenant: Tenant, placement: Placement, handle: Handle) -> None:
        key = (tenant.id, placement)
        task = self._verifying.get(key)
        if task is None:
            task = self._verifying[key] = asyncio.ensure_future(self._look(tenant, placement, handle))
            task.add_done_callback(lambda _: self._verifying.pop(key, None))
        await asyncio.shield(task)

    async def _look(self, tenant: Tenant, placement: Placement, handle: Handle) -> None:
        found = await meta.read(handle.raw)
        meta.check_owner(found, tenant.id)
        assert found is not None
        meta.check_served(found, tenant.id)
        wanted = meta.fingerprint(self.own)
        # As a start does in the shared database: a validator that was taken away is put back.
        if found.get("schemas") != wanted or not await are_guarded(handle.raw, self._own):
            async with self.provider(placement).administer(tenant, placement) as administered:
                await administered.ensure(self.own)
                await meta.mark(administered.raw, schemas=wanted)
        self._verified[tenant.id, placement] = weakref.ref(handle.deployment)
        self._verified.move_to_end((tenant.id, placement))
        while len(self._verified) > MOST_VERIFIED:
            self._verified.popitem(last=False)


class PlacedCollection:
    """Implements `services.store.Collection` in a database that is opened when it is needed."""

    __slots__ = ("_name", "_placement", "_placements", "_tenant")

    def __init__(self, placements: Placements, tenant: Tenant, placement: Placement, name: str) -> None:
        self._placements = placements
        self._tenant = tenant
        self._placement = placement
        self._name = name

    @property
    def namespace(self) -> Namespace:
        return Namespace(self._placement.database, self._name)

    async def find(
        self,
        filter: Filter,
        *,
        projection: Mapping[str, int] | None = None,
        sort: Sort = (),
        skip: int = 0,
        limit: int = 0,
    ) -> list[Document]:
        return await self._do(
            lambda found: found.find(filter, projection=projection, sort=sort, skip=skip, limit=limit)
        )

    async def count(self, filter: Filter) -> int:
        return await self._do(lambda found: found.count(filter))

    async def insert(self, documents: Any) -> None:
        await self._do(lambda found: found.insert(documents))

    async def find_one_and_update(self, filter: Filter, update: Mapping[str, Any]) -> Document | None:
        return await self._do(lambda found: found.find_one_and_update(filter, update))

    async def find_one_and_replace(self, filter: Filter, replacement: Document) -> Document | None:
        return await self._do(lambda found: found.find_one_and_replace(filter, replacement))

    async def find_one_and_delete(self, filter: Filter) -> Document | None:
        return await self._do(lambda found: found.find_one_and_delete(filter))

    async def update_many(self, filter: Filter, update: Mapping[str, Any]) -> int:
        return await self._do(lambda found: found.update_many(filter, update))

    async def delete_many(self, filter: Filter) -> int:
        return await self._do(lambda found: found.delete_many(filter))

    async def _do(self, work: Callable[[Collection], Awaitable[_T]]) -> _T:
        try:
            async with self._placements.handle(self._tenant, self._placement) as handle:
                return await work(handle.collection(self._name))
        except Unavailable as error:
            if error.data is not None:
                raise
            raise unavailable("The app's database cannot be reached just now") from error


def merged(schemas: Iterable[CollectionSchema]) -> list[CollectionSchema]:
    """One schema for each collection, with the indexes of all."""
    found: dict[str, dict[Any, None]] = {}
    for schema in schemas:
        found.setdefault(schema.name, {}).update(dict.fromkeys(schema.indexes))
    return [CollectionSchema(name, (*indexes,)) for name, indexes in found.items()]
