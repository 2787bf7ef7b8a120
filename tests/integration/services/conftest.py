from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, get_args

import pytest

from hooks.context import Params
from services.database.deployment import Path
from services.memory import MemoryService
from services.mongo import MongoService, ServiceOptions
from tests.integration.services.places import Ask, Places, asker, places
from tests.support.tripwire import Tripwire

MakeService = Callable[..., MongoService]

ALL = frozenset({"create", "patch", "remove"})
HEX = "65a1b2c3d4e5f60718293a4b"


@pytest.fixture(params=["memory", *get_args(Path)])
async def make(request: pytest.FixtureRequest) -> AsyncIterator[MakeService]:
    """Makes the service under test, `make(paginate=..., multi=..., id=...)`: in memory, or in MongoDB by each path to it.

    Each test has two tenants of its own in MongoDB: in one collection for all, or in databases of their own.
    """
    if request.param == "memory":
        yield lambda **options: MemoryService(ServiceOptions("todos", **options))
        return
    tripwire: Tripwire = request.getfixturevalue("tripwire")
    mongod: str = request.getfixturevalue("mongod")
    async with places(mongod, who_asks(request), path=request.param, listeners=[tripwire]) as found:
        yield lambda **options: MongoService(found.isolation, ServiceOptions("todos", **options))


@pytest.fixture
async def placed(request: pytest.FixtureRequest, mongod: str, tripwire: Tripwire) -> AsyncIterator[Places]:
    """Where the tenants of the test are in MongoDB."""
    async with places(mongod, who_asks(request), listeners=[tripwire]) as found:
        yield found


def who_asks(request: pytest.FixtureRequest) -> list[Ask]:
    """The askers that the test has."""
    return [request.getfixturevalue(name) for name in ("ask", "other") if name in request.fixturenames]


@pytest.fixture
def ask() -> Ask:
    """The params of a client's call in one tenant, by its query: `ask({"n": 1})`."""
    return asker("acme")


@pytest.fixture
def other() -> Ask:
    """The same in another tenant."""
    return asker("globex")


async def fill(service: MongoService, ask: Ask, *names: str) -> list[Any]:
    """Creates records `{name, n}`, n from 0 on; returns them."""
    return [await service.create({"name": name, "n": number}, ask()) for number, name in enumerate(names)]


async def names(service: MongoService, params: Params) -> list[str]:
    found: Any = await service.find(params)
    return [record["name"] for record in (found["data"] if isinstance(found, dict) else found)]
