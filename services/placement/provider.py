"""What a provider of tenant databases does, whatever the isolation model."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from hooks.errors import Unavailable
from hooks.tenant import Placement, Tenant
from services.database.deployment import Deployment
from services.database.schema import CollectionSchema
from services.store import Collection, Namespace


@dataclass(frozen=True, slots=True)
class Handle:
    """A database that holds a tenant's records; good for as long as the block lasts that gave it."""

    deployment: Deployment
    database: str

    def collection(self, name: str) -> Collection:
        """A collection as services use it."""
        return self.deployment.collection(Namespace(self.database, name))

    @property
    def raw(self) -> Any:
        """The driver's own database, for administration and copies."""
        return self.deployment.client[self.database]

    async def ensure(self, schemas: Iterable[CollectionSchema]) -> None:
        """Brings validators and indexes about."""
        await self.deployment.ensure(self.database, *schemas)


class TenantDatabaseProvider(Protocol):
    """Gives the databases of one isolation model. Registered by the model's name; nothing above knows which it talks to."""

    def handle(self, tenant: Tenant, placement: Placement) -> AbstractAsyncContextManager[Handle]:
        """The tenant's database for its own records.

        Raises:
            Unavailable: it cannot be reached, or the placement cannot be resolved. It is never another database instead.
        """
        ...

    def administer(self, tenant: Tenant, placement: Placement) -> AbstractAsyncContextManager[Handle]:
        """The same with the rights to bring collections about, to copy and to drop."""
        ...

    async def provision(self, tenant: Tenant, placement: Placement, schemas: Iterable[CollectionSchema]) -> Placement:
        """Brings the database about with its user, collections and `_meta`; done again, it changes nothing.

        The placement that it returns is the one to keep: with the name of the credentials that were made.
        """
        ...

    async def deprovision(self, tenant: Tenant, placement: Placement) -> int:
        """Deletes all records of the tenant there; how many there were. Refuses what is another tenant's."""
        ...

    async def ping(self, tenant: Tenant, placement: Placement) -> bool:
        """Whether the tenant's database answers."""
        ...


def unavailable(sentence: str) -> Unavailable:
    """The error of a tenant's database that cannot be had."""
    return Unavailable(sentence, data={"reason": "TenantDatabaseUnavailable"})
