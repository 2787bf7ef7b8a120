"""What all tests share: one mongod, and the tripwire that watches every command on tenant data."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from server.main import Roost
from services.authentication import passwords
from services.control import lifecycle
from tests.support.mongod import session_mongod
from tests.support.placed import CLUSTERS, MODELS, default_model
from tests.support.roost import TWO_APPS, recycling, start_roost
from tests.support.tripwire import Tripwire

REAL = (passwords.MEMORY_KIB, passwords.ROUNDS)
CHEAP = (64, 1)
GARBAGE = 20_000
"""Objects made, and not yet let go of, after which the garbage collector looks at them."""
_COSTLY = {"timing", "load", "passwords"}
_FULL_COST: set[Path] = set()
"""Modules with a test that is about what a hash costs."""
StartRoost = Callable[..., Awaitable[Roost]]


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--model database` runs whatever starts a server with apps of that isolation model."""
    parser.addoption("--model", choices=MODELS, default="shared", help="isolation model of the apps under test")


def pytest_configure(config: pytest.Config) -> None:
    """See `pytest_addoption`."""
    default_model[0] = config.getoption("--model")
    if default_model[0] != "shared":
        # Databases of their own take longer to make, above all on a machine that is busy with other tests.
        lifecycle.PATIENCE = 60.0


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked `shared_only` say why the option is nothing to them, and are left out with it."""
    if config.getoption("--model") == "shared":
        return
    for item in items:
        if (mark := item.get_closest_marker("shared_only")) is not None:
            item.add_marker(pytest.mark.skip(reason=mark.args[0]))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Notes which modules pay the whole price of hashes, and has the garbage collector look at less.

    What the imports and the collection have made stays for good: the garbage collector, which took a third of the
    processor's time to look at it again and again, looks at what the tests make, and less often.
    """
    _FULL_COST.update(item.path for item in session.items if any(mark.name in _COSTLY for mark in item.iter_markers()))
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE, 10, 10)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Hashes of passwords cost next to nothing in servers that a test starts in this process, unless it is about that."""
    is_cheap = item.path not in _FULL_COST
    passwords.MEMORY_KIB, passwords.ROUNDS = CHEAP if is_cheap else REAL


def pytest_sessionfinish() -> None:
    """Ends the clusters besides the session's own mongod."""
    CLUSTERS.stop()


@pytest.fixture(autouse=True, scope="session")
def _clean_environment() -> None:
    for name in [name for name in os.environ if name.startswith("ROOST_")]:
        del os.environ[name]


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """A test that sets up the server's own logs leaves none behind that write to what was captured for it."""
    before, handlers = structlog.get_config(), [*logging.getLogger().handlers]
    yield
    structlog.configure(**before)
    logging.getLogger().handlers[:] = handlers


@pytest.fixture(scope="session")
def mongod() -> Iterator[str]:
    """The URI of the session's MongoDB."""
    with session_mongod() as uri, recycling(uri):
        yield uri


@pytest.fixture
def tripwire() -> Iterator[Tripwire]:
    """Fails the test when a command on tenant data was not tied to one tenant (ARCHITECTURE rule 3, LIMITS T4)."""
    wire = Tripwire()
    yield wire
    assert wire.violations == []


@pytest.fixture
async def roosts(mongod: str, tripwire: Tripwire) -> AsyncIterator[StartRoost]:
    """Starts servers, each over an empty database; all are stopped when the test ends."""
    started: list[Roost] = []

    async def start(declared: str = TWO_APPS, *, uri: str = mongod, **settings: Any) -> Roost:
        roost = await start_roost(uri, declared, tripwire=tripwire, **settings)
        started.append(roost)
        return roost

    yield start
    # A database that several servers share is dropped with the last of them.
    last = {roost.settings.database: roost for roost in started[::-1]}
    for roost in reversed(started):
        await (roost.drop() if last[roost.settings.database] is roost else roost.stop())


@pytest.fixture
async def roost(roosts: StartRoost) -> Roost:
    """A server with the apps of `TWO_APPS`."""
    return await roosts()
