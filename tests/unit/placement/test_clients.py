"""DB-5, PO-5: the cache of clients. What is opened here is our own `Deployment`; only the connection itself is stood in for."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from hooks.errors import Unavailable
from services.database.deployment import Deployment
from services.placement.clients import Address, Clients


class Cluster:
    """Makes deployments that open without a server, and counts what becomes of them."""

    def __init__(self) -> None:
        self.opened: Counter[str] = Counter()
        self.closed: Counter[str] = Counter()
        self.is_down = False
        self.now = 0.0

    def make(self, address: Address) -> Deployment:
        cluster = self

        class Counted(Deployment):
            async def open(self) -> None:
                await asyncio.sleep(0)
                cluster.opened[address.key] += 1
                if cluster.is_down:
                    raise Unavailable

            async def close(self) -> None:
                cluster.closed[address.key] += 1

        return Counted(address.uri)

    def clients(self, **options: float) -> Clients:
        return Clients(self.make, most=int(options.pop("most", 64)), clock=lambda: self.now, **options)


def address(key: str) -> Address:
    return Address(key, "mongodb://nowhere.invalid", 5)


async def use(clients: Clients, key: str) -> None:
    async with clients.lease(address(key)):
        pass


async def test_a_thousand_at_once_open_one_client() -> None:
    cluster = Cluster()
    clients = cluster.clients()
    await asyncio.gather(*(use(clients, "far") for _ in range(1000)))
    assert cluster.opened == {"far": 1}
    await clients.close()
    assert cluster.closed == {"far": 1}


async def test_one_who_gives_up_takes_nothing_from_the_others() -> None:
    cluster = Cluster()
    clients = cluster.clients()
    first, second = asyncio.create_task(use(clients, "far")), asyncio.create_task(use(clients, "far"))
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert cluster.opened == {"far": 1}
    await clients.close()


async def test_the_least_recently_used_is_closed_first_and_none_in_use() -> None:
    cluster = Cluster()
    clients = cluster.clients(most=2)
    async with clients.lease(address("one")):
        await use(clients, "two")
        await use(clients, "three")
        await use(clients, "four")
        await asyncio.sleep(0)
        assert clients.keys == ("one", "four")
        assert cluster.closed == {"two": 1, "three": 1}
        async with clients.lease(address("five")), clients.lease(address("six")):
            assert "one" in clients.keys
    await clients.close()
    assert cluster.closed.total() == cluster.opened.total() == 6


async def test_idle_clients_are_closed() -> None:
    cluster = Cluster()
    clients = cluster.clients(idle=600.0)
    await use(clients, "old")
    cluster.now = 599.0
    await use(clients, "new")
    cluster.now = 600.0
    await use(clients, "new")
    assert clients.keys == ("new",)
    await clients.close()


async def test_who_cannot_be_reached_is_not_asked_again_for_two_seconds() -> None:
    cluster = Cluster()
    cluster.is_down = True
    clients = cluster.clients()
    for now in (0.0, 1.0, 1.99):
        cluster.now = now
        with pytest.raises(Unavailable) as refused:
            await use(clients, "far")
        assert refused.value.data == {"reason": "TenantDatabaseUnavailable"}
    assert cluster.opened == {"far": 1}
    cluster.is_down, cluster.now = False, 2.0
    await use(clients, "far")
    assert cluster.opened == {"far": 2}
    await clients.close()


async def test_there_are_only_so_many_in_use() -> None:
    cluster = Cluster()
    clients = cluster.clients()
    leases = [clients.lease(address(str(number))) for number in range(256)]
    for lease in leases:
        await lease.__aenter__()
    with pytest.raises(Unavailable):
        await use(clients, "one more")
    for lease in leases:
        await lease.__aexit__(None, None, None)
    await use(clients, "one more")
    assert len(clients.keys) == 64
    await clients.close()


def test_an_address_does_not_show_its_credential() -> None:
    assert "secret" not in repr(Address("far", "mongodb://u:secret@far", 5))
