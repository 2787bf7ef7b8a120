"""TENANCY PO-3, LIMITS N1: no tenant has all of the database, neither its connections nor its processors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextvars import Context
from uuid import uuid4

import pytest

from hooks.errors import Unavailable
from hooks.tenant import Tenant, tenant_scope
from services.database.deployment import Deployment, Path
from services.database.shares import Shares
from services.store import Collection, Filter, Namespace
from tests.support.mongod import ReplicaSet

LOUD, QUIET = Tenant("loud", "Loud"), Tenant("quiet", "Quiet")
SIZE, SHARE = 8, 2
SLOW = {"_id": 1, "$where": "sleep(200) || true"}
"""A filter for which a command takes so many milliseconds."""
SECONDS = 0.2


@pytest.fixture(params=["lean", "pymongo"])
async def collection(request: pytest.FixtureRequest, replica_set: ReplicaSet) -> AsyncIterator[Collection]:
    """A collection with one record, over a pool of few connections, on either command path."""
    path: Path = request.param
    deployment = Deployment(replica_set.uri, path=path, pool_size=SIZE)
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


async def patch(collection: Collection, tenant: Tenant, filter: Filter) -> bool:
    """A tenant changes the record."""
    with tenant_scope(tenant):
        return await collection.find_one_and_update(filter, {"$inc": {"n": 1}}) is not None


async def seconds(collection: Collection, tenant: Tenant | None, filter: Filter, count: int) -> float:
    """How long so many at once take."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await asyncio.gather(*(find(collection, tenant, filter) for _ in range(count))) == [1] * count
    return loop.time() - began


async def test_others_get_a_connection_while_one_wants_them_all(collection: Collection) -> None:
    """PO-3: the quiet one is answered before the first of the slow ones, and so is the server itself."""
    loud = [asyncio.create_task(find(collection, LOUD, SLOW)) for _ in range(6)]
    await asyncio.sleep(0)
    for tenant in (QUIET, None):
        await seconds(collection, tenant, {}, 2)
    assert [task.done() for task in loud] == [False] * 6
    assert await asyncio.gather(*loud) == [1] * 6


async def test_slow_searches_come_down_to_one_at_a_time(collection: Collection) -> None:
    """N1: two of six at once, and then one after the other, whatever connections are free; the server itself has no limit."""
    assert await seconds(collection, LOUD, SLOW, 6) >= SECONDS * 4
    assert await seconds(collection, None, SLOW, 6) < SECONDS * 4


async def test_a_tenant_has_its_share_and_no_more(collection: Collection) -> None:
    """PO-3: changes of records are not judged by their time, and there are never more of a tenant at once than its share."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    # Each of its own record, so that they do not wait for each other.
    await collection.insert([{"_id": number} for number in range(2, 8)])
    slow = [{**SLOW, "_id": number} for number in range(2, 8)]
    changed = asyncio.gather(*(patch(collection, LOUD, filter) for filter in slow))
    await asyncio.sleep(0)
    # Neither waits for what the loud one waits for.
    await patch(collection, QUIET, {"_id": 1})
    await collection.insert([{"of": "nobody"}])
    assert not changed.done()
    assert await changed == [True] * 6
    assert loop.time() - began >= SECONDS * 6 / SHARE


async def test_who_gives_up_gives_his_place_back(collection: Collection) -> None:
    """Cancelled before and after it had its turn: the tenant has its whole share afterwards."""
    for turns in (1, 50):
        # PyMongo leaves the socket behind of a connection that is given up while it is opened.
        await seconds(collection, LOUD, {}, 8)
        tasks = [asyncio.create_task(find(collection, LOUD, SLOW)) for _ in range(6)]
        for _ in range(turns):
            await asyncio.sleep(0.002)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await seconds(collection, LOUD, {}, 20)
    assert await patch(collection, LOUD, {"_id": 1})


async def test_who_waits_too_long_is_told_so(collection: Collection) -> None:
    """PO-2: a full share becomes 503 after two seconds, for that tenant alone; and then it is as before."""
    tasks = [asyncio.create_task(find(collection, LOUD, {"$where": "sleep(1500) || true"})) for _ in range(6)]
    await seconds(collection, QUIET, {}, 4)
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(answer) for answer in answers} == {int, Unavailable}
    assert await seconds(collection, LOUD, {}, 4) < 1.5


async def test_a_transaction_does_not_wait_for_its_own_tenant(replica_set: ReplicaSet) -> None:
    """Who waits for a record that a transaction holds may have the whole share: the transaction goes on nevertheless."""
    deployment = Deployment(replica_set.uri, path="pymongo", pool_size=SIZE)
    await deployment.open()
    database = f"test_{uuid4().hex}"
    collection = deployment.collection(Namespace(database, "things"))
    await collection.insert([{"_id": 1}])
    others: list[asyncio.Task[bool]] = []

    async def work() -> int:
        await collection.find_one_and_update({"_id": 1}, {"$inc": {"n": 1}})
        if not others:
            others.extend(asyncio.create_task(find_slowly(), context=Context()) for _ in range(SHARE))
            await asyncio.sleep(0.05)
        return len(await collection.find({"_id": 1}))

    async def find_slowly() -> bool:
        return await patch(collection, LOUD, {"$where": "sleep(1500) || true"})

    try:
        loop = asyncio.get_running_loop()
        began = loop.time()
        with tenant_scope(LOUD):
            assert await deployment.transaction(work) == 1
        assert loop.time() - began < 1.5
        await asyncio.gather(*others, return_exceptions=True)
    finally:
        await deployment.client.drop_database(database)
        await deployment.close()


async def test_the_processors_are_those_of_the_server(replica_set: ReplicaSet) -> None:
    """The limit for slow searches follows what the database says of itself."""
    deployment = Deployment(replica_set.uri, path="pymongo", pool_size=400)
    await deployment.open()
    try:
        cores = (await deployment.client.admin.command("hostInfo"))["system"]["numCores"]
        assert deployment.shares.least == Shares(400, processors=cores).least == max(1, cores // 4)
    finally:
        await deployment.close()
