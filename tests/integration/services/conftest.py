from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, get_args
from uuid import uuid4

import pytest

from hooks.context import Params
from hooks.tenant import Placement, Tenant
from services.database.deployment import Deployment, Path
from services.database.schema import CollectionSchema, Index, Words
from services.isolation import Isolation
from services.memory import MemoryService
from services.mongo import MongoService, ServiceOptions
from tests.support.tripwire import Tripwire

MakeService = Callable[..., MongoService]
Ask = Callable[..., Params]

DATABASE = "test_services"
ALL = frozenset({"create", "patch", "remove"})
HEX = "65a1b2c3d4e5f60718293a4b"
TODOS = CollectionSchema("todos", (Index((("app_id", 1), ("customid", 1)), unique=True), Words()))


@pytest.fixture(params=["memory", *get_args(Path)])
async def make(request: pytest.FixtureRequest) -> AsyncIterator[MakeService]:
    """Makes the service under test, `make(paginate=..., multi=..., id=...)`: in memory, or in MongoDB by each path to it.

    In MongoDB all tests share one collection; each has two tenants of its own in it.
    """
    if request.param == "memory":
        yield lambda **options: MemoryService(ServiceOptions("todos", **options))
        return
    tripwire: Tripwire = request.getfixturevalue("tripwire")
    deployment = Deployment(request.getfixturevalue("mongod"), path=request.param, event_listeners=[tripwire])
    await deployment.open()
    try:
        await deployment.ensure(DATABASE, TODOS)
        isolation = Isolation(deployment)
        yield lambda **options: MongoService(isolation, ServiceOptions("todos", **options))
    finally:
        await deployment.close()


@pytest.fixture
def ask() -> Ask:
    """The params of a client's call in one tenant, by its query: `ask({"n": 1})`."""
    return asker("acme")


@pytest.fixture
def other() -> Ask:
    """The same in another tenant."""
    return asker("globex")


def asker(name: str) -> Ask:
    """Calls of a client in a tenant of its own."""
    tenant = Tenant(f"{name}-{uuid4().hex}", name, placement=Placement(database=DATABASE))

    def ask(query: dict[str, Any] | None = None, provider: str | None = "socketio") -> Params:
        return Params(tenant=tenant, query=query or {}, provider=provider)

    return ask


async def fill(service: MongoService, ask: Ask, *names: str) -> list[Any]:
    """Creates records `{name, n}`, n from 0 on; returns them."""
    return [await service.create({"name": name, "n": number}, ask()) for number, name in enumerate(names)]


async def names(service: MongoService, params: Params) -> list[str]:
    found: Any = await service.find(params)
    return [record["name"] for record in (found["data"] if isinstance(found, dict) else found)]
