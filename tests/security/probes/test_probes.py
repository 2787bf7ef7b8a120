"""TENANCY 8.2.12, LIMITS T1, T2, T5: for every service, method and transport, the south's administrator gets nothing of the
north's, is told nothing by any difference, and hears nothing. A new service is enrolled by its declaration, and must be."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from services.base import STANDARD_METHODS
from tests.security.probes.declarations import PROBES
from tests.security.probes.probing import check_silence, probe_service, record_of
from tests.security.probes.world import SECRETS, SOUTH, World, start_world, stored
from tests.support.client import CallError, outcome

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(mongod: str) -> AsyncIterator[World]:
    """One server for all probes."""
    async with start_world(mongod) as both:
        yield both
        assert both.tripwire.violations == []


async def test_every_service_is_enrolled(world: World) -> None:
    """PT-2: a service that is registered, by whomever, has a declaration; its own methods have data."""
    registered = world.registered()
    assert sorted(set(registered) - set(PROBES)) == [], "declare how these are probed in declarations.py"
    assert sorted(set(PROBES) - set(registered)) == [], "these are no services any more"
    own = {(path, name) for path, one in registered.items() for name in one.methods if name not in STANDARD_METHODS}
    assert own <= {(path, name) for path, probe in PROBES.items() for name in probe.calls}


async def test_what_the_north_makes_is_unheard_of(world: World) -> None:
    """PT-1: the north makes a record of each service; the south, whose people may hear of all that is theirs, hears nothing."""
    for client in (world.south.listener, world.south.socket, world.north.listener):
        await client.take_events()
    for path in world.registered():
        try:
            await record_of(world.north, path)
        except CallError as error:
            raise AssertionError(f"'{path}' is declared wrongly: {error}") from error
    await world.south.listener.quiet()
    await world.south.socket.quiet()
    assert len(await world.north.listener.take_events()) > 10


@pytest.mark.parametrize("transport", ["socket", "http"])
@pytest.mark.parametrize("path", PROBES)
async def test_nothing_of_another_tenant(world: World, path: str, transport: str) -> None:
    """PT-1: ids, queries, data and places of the north are those of nothing."""
    assert await probe_service(world, path, transport) > 10


MANAGED = ("tenants", "apps", "tenant-operations", "settings", "domains", "jobs", "organizations", "members", "roles")


@pytest.mark.parametrize("path", MANAGED)
async def test_nothing_of_another_tenant_for_its_manager(world: World, path: str) -> None:
    """PT-1, CP-13: nor does a manager of the south, who may do there all that managers may."""
    own = await outcome(world.south.manager, "find", "tenants")
    assert [tenant["_id"] for tenant in own["data"]] == [SOUTH], "he is let in"
    assert await probe_service(world, path, "manager") > 10


async def test_nothing_was_left_behind(world: World) -> None:
    """PT-1: after all of it no record of the south has anything of the north's, and the north goes on as before."""
    # One attack of its own, so that it holds without the tests before it.
    await probe_service(world, "messages", "http")
    assert SECRETS["north"] not in json.dumps(await stored(world.roost, SOUTH), default=str)
    assert (await world.north.http.call("find", "messages"))["total"] >= 1
    await check_silence(world.south, world.north)
