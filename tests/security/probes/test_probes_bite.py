"""PT-5, the mutation test: one scope is taken away at a time, and the probes must fail; whole, they pass."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from hooks.context import Params
from server.publish import Publisher
from services import isolation
from services.application import Event
from services.control.domains import Domains
from services.control.jobs import MongoJobStore
from tests.security.probes import probing
from tests.security.probes.declarations import PROBES
from tests.security.probes.probing import Breach, check_silence, probe_service, record_of
from tests.security.probes.world import NORTH, SECRETS, SOUTH, World, start_world
from tests.security.test_guards import without_check_of_results, without_scope

pytestmark = pytest.mark.asyncio(loop_scope="module")
TRANSPORTS = ("socket", "http")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(mongod: str) -> AsyncIterator[World]:
    """One server whose guards are taken away in turn. Where each tenant has a database, nothing would be reached without."""
    async with start_world(mongod, "shared") as both:
        for path in both.registered():
            await record_of(both.north, path)
        yield both


def without_app(filter: Any) -> Any:
    """A filter that has lost the tenant, whoever has put it there."""
    if isinstance(filter, dict):
        return {key: without_app(value) for key, value in filter.items() if key != "app_id"}
    return [without_app(one) for one in filter] if isinstance(filter, list) else filter


def without_filter(patch: pytest.MonkeyPatch) -> None:
    """The mandatory filter, and what the hooks have put in the query. What the database answers is still looked at."""
    without_scope(patch)
    unscoped = isolation.scope
    patch.setattr(isolation, "scope", lambda filter, tenant_id: unscoped(without_app(filter), tenant_id))


def without_all(patch: pytest.MonkeyPatch) -> None:
    """Nor is that looked at."""
    without_filter(patch)
    without_check_of_results(patch)


def _of_the_north(patch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    """A method of a repository that has lost its scope: the south is answered as the north would be."""
    whole = getattr(owner, name)

    async def unscoped(self: Any, app_id: str, *arguments: Any, **options: Any) -> Any:
        return await whole(self, NORTH if app_id == SOUTH else app_id, *arguments, **options)

    patch.setattr(owner, name, unscoped)


def _method(owner: Any, name: str) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: _of_the_north(patch, owner, name)


MUTATIONS: list[tuple[str, str, Callable[[pytest.MonkeyPatch], None]]] = [
    ("messages", "find", without_filter),
    ("messages", "get", without_filter),
    ("messages", "find", without_all),
    ("messages", "get", without_all),
    ("shelves", "find", without_all),
    ("audit-log", "find", without_all),
    ("domains", "find", _method(Domains, "find")),
    ("domains", "get", _method(Domains, "get")),
    ("jobs", "find", _method(MongoJobStore, "find")),
    ("jobs", "get", _method(MongoJobStore, "get")),
]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(("path", "method", "mutate"), MUTATIONS)
async def test_a_read_without_its_scope_is_found(
    world: World, path: str, method: str, mutate: Callable[[pytest.MonkeyPatch], None], transport: str
) -> None:
    """PT-5: the probes pass, then fail without the scope, then pass again."""
    await probe_service(world, path, transport, (method,))
    with pytest.MonkeyPatch.context() as patch:
        mutate(patch)
        with pytest.raises(Breach):
            await probe_service(world, path, transport, (method,))
    await probe_service(world, path, transport, (method,))


@pytest.mark.parametrize("path", ["roles", "clients", "connections", "resource-servers"])
async def test_an_entity_that_is_found_by_its_id_alone_is_found_out(world: World, path: str) -> None:
    """PT-5: one collection reads what others have."""
    whole = isolation.ScopedCollection.find
    collection = path.replace("-", "_")

    async def unscoped(self: Any, filter: Any, **options: Any) -> Any:
        if self.namespace.collection == collection and self._tenant_id == SOUTH:
            self = isolation.ScopedCollection(self._collection, NORTH, (), self._writes, self._placement)
        return await whole(self, without_app(filter), **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(isolation.ScopedCollection, "find", unscoped)
        with pytest.raises(Breach):
            await probe_service(world, path, "socket", ("get",))
    await probe_service(world, path, "socket", ("get",))


async def test_an_event_that_goes_astray_is_heard(world: World) -> None:
    """PT-5: what happens in the north is published in the south as well."""
    publish = Publisher.__call__

    async def astray(self: Publisher, event: Event) -> None:
        await publish(self, event)
        context = copy.copy(event.context)
        context.params = Params(tenant=world.south.tenant())
        await publish(self, replace(event, context=context))

    data = PROBES["messages"].data(world.north.names)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Publisher, "__call__", astray)
        await world.north.http.call("create", "messages", data)
        with pytest.raises(Breach):
            await check_silence(world.south, world.north)
    await world.south.socket.take_events()
    await world.north.http.call("create", "messages", data)
    await check_silence(world.south, world.north)


async def test_a_write_without_its_scope_is_found(world: World) -> None:
    """PT-5: what the south changes of the north's is seen in what is stored, even when the answer tells nothing."""
    with pytest.MonkeyPatch.context() as patch:
        without_all(patch)
        patch.setattr(probing, "SECRETS", {**SECRETS, NORTH: "nothing-is-called-this"})
        with pytest.raises(Breach):
            await probe_service(world, "messages", "http", ("patch",))
