"""TENANCY PO-3, LIMITS N1: no tenant has all connections to the database, however long its commands take."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from hooks.errors import Unavailable
from hooks.tenant import Tenant, tenant_scope
from services.database.deployment import Deployment
from services.store import Collection, Filter, Namespace
from tests.support.mongod import ReplicaSet

LOUD, QUIET = Tenant("loud", "Loud"), Tenant("quiet", "Quiet")
SIZE, SHARE = 8, 2
SLOW = {"_id": 1, "$where": "sleep(400) || true"}
"""A filter for which a command takes so many milliseconds."""


@pytest.fixture
async def collection(replica_set: ReplicaSet) -> AsyncIterator[Collection]:
    """A collection with one record, over a pool of few connections."""
    deployment = Deployment(replica_set.uri, path="lean", pool_size=SIZE)
    await deployment.open()
    database = f"test_{uuid4().hex}"
    collection = deployment.collection(Namespace(database, "things"))
    await collection.insert([{"_id": 1}])
    yield collection
    await deployment.client.drop_database(database)
    await deployment.close()


async def find(collection: Collection, tenant: Tenant | None, filter: Filter) -> int:
    """How many records a tenant, or the server itself, finds."""
    if tenant is None:
        return len(await collection.find(filter))
    with tenant_scope(tenant):
        return len(await collection.find(filter))


async def seconds(collection: Collection, tenant: Tenant | None, filter: Filter, count: int) -> float:
    """How long so many at once take."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await asyncio.gather(*(find(collection, tenant, filter) for _ in range(count))) == [1] * count
    return loop.time() - began


async def test_others_get_a_connection_while_one_wants_them_all(collection: Collection) -> None:
    """PO-3: two of eight at most; the quiet one is answered before the first of the slow ones, and so is the server itself."""
    loud = [asyncio.create_task(find(collection, LOUD, SLOW)) for _ in range(6)]
    await asyncio.sleep(0)
    for tenant in (QUIET, None):
        await seconds(collection, tenant, {}, 2)
    assert [task.done() for task in loud] == [False] * 6
    assert await asyncio.gather(*loud) == [1] * 6


async def test_a_tenant_has_its_share_and_no_more(collection: Collection) -> None:
    """PO-3: six commands of one tenant are three turns; of three tenants they are one, and of the server itself as well."""
    assert await seconds(collection, LOUD, SLOW, SHARE * 3) >= 1.2
    others = [seconds(collection, tenant, SLOW, SHARE) for tenant in (LOUD, QUIET, None)]
    assert max(await asyncio.gather(*others)) < 1.2


async def test_inserts_do_not_wait_for_a_share(collection: Collection) -> None:
    """Single inserts of several tenants go together: nobody's wait for what the loud one waits for."""
    loop = asyncio.get_running_loop()
    loud = [asyncio.create_task(find(collection, LOUD, SLOW)) for _ in range(SHARE * 4)]
    await asyncio.sleep(0)
    began = loop.time()
    for tenant in (LOUD, LOUD, QUIET):
        with tenant_scope(tenant):
            await collection.insert([{"of": tenant.id}])
    assert loop.time() - began < 1.2
    assert not loud[-1].done()
    await asyncio.gather(*loud)


async def test_who_gives_up_gives_his_place_back(collection: Collection) -> None:
    """Cancelled before and after it was lent a connection: the tenant has its whole share afterwards."""
    for turns in (1, 50):
        tasks = [asyncio.create_task(find(collection, LOUD, SLOW)) for _ in range(6)]
        for _ in range(turns):
            await asyncio.sleep(0.002)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await seconds(collection, LOUD, {}, 20)
    assert await seconds(collection, LOUD, SLOW, SHARE) < 1.2


async def test_who_waits_too_long_is_told_so(collection: Collection) -> None:
    """PO-2: a full share becomes 503 after two seconds, for that tenant alone; and then it is as before."""
    tasks = [asyncio.create_task(find(collection, LOUD, {"$where": "sleep(1500) || true"})) for _ in range(6)]
    await seconds(collection, QUIET, {}, 4)
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(answer) for answer in answers} == {int, Unavailable}
    assert await seconds(collection, LOUD, {}, 4) < 1.5
