"""The catalogue in memory: how often the database is asked, and what is believed when it is not there (CA-1 to CA-6)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from jwt.utils import base64url_encode
from pymongo.monitoring import CommandStartedEvent

from hooks.errors import NotFound, TooManyRequests, Unavailable
from hooks.tenant import Tenant
from server.backend import Backend, open_backend
from server.main import Roost
from services.authentication.keys import ALGORITHM
from services.authentication.tokens import TYPE
from services.control.catalogue import FRESH, STALE, UNKNOWN, Catalogue
from services.control.public_keys import fresh
from services.declaration import parse
from tests.integration.database.commands import Commands
from tests.integration.database.fail_points import failing
from tests.support.client import connect, handshake, outcome, rest, until
from tests.support.mongod import ReplicaSet
from tests.support.roost import TWO_APPS, settings_for

SOON = 5.0
"""Seconds in which a change has to be seen."""


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Questions(Commands):
    """What was asked about tenants."""

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name == "find" and event.command["find"] == "tenants":
            super().started(event)

    def count(self) -> int:
        """How many questions there were since this was last asked."""
        asked, self.all_started = len(self.all_started), []
        return asked


@pytest.fixture(scope="module")
def replica_set() -> Iterator[ReplicaSet]:
    """A MongoDB of its own, to do harm to."""
    with ReplicaSet() as replica_set:
        yield replica_set


@pytest.fixture
def questions() -> Questions:
    return Questions()


@pytest.fixture
async def backend(replica_set: ReplicaSet, questions: Questions) -> AsyncIterator[Backend]:
    """A backend with the apps of `TWO_APPS`."""
    async with open_backend(settings_for(replica_set.uri), [questions]) as backend:
        await backend.apply(parse(TWO_APPS))
        await backend.tenants.prepare_catalogue()
        questions.count()
        yield backend


@pytest.fixture
def clock() -> Clock:
    return Clock()


Open = Callable[..., AbstractAsyncContextManager[Catalogue]]


@pytest.fixture
def opened(backend: Backend, clock: Clock) -> Open:
    """Makes catalogues, which are stopped when their block ends."""

    @asynccontextmanager
    async def open(**options: Any) -> AsyncIterator[Catalogue]:
        catalogue = Catalogue(backend.deployment, database=backend.settings.database, clock=clock, **options)
        try:
            yield catalogue
        finally:
            await catalogue.stop()

    return open


def documents(backend: Backend) -> Any:
    return backend.deployment.client[f"{backend.settings.database}_control"]["tenants"]


async def known(catalogue: Catalogue, id: str = "acme", **options: Any) -> Tenant:
    tenant = await catalogue.get(id, **options)
    assert tenant is not None
    return tenant


async def test_a_thousand_first_calls_ask_once(backend: Backend, opened: Open, questions: Questions) -> None:
    """CA-2, CA-6: exactly one query, by id and by public key."""
    async with opened() as catalogue:
        found = await asyncio.gather(*(catalogue.get("acme") for _ in range(1_000)))
        assert questions.count() == 1
        assert len({id(tenant) for tenant in found}) == 1
        globex = await backend.tenants.get("globex")
        assert globex is not None
        questions.count()
        named = await asyncio.gather(*(catalogue.by_public_key(globex.public_keys[0]) for _ in range(1_000)))
        assert questions.count() == 1
        assert {tenant.id for tenant in named if tenant is not None} == {"globex"}
        assert await known(catalogue, "globex") is named[0]
        assert questions.count() == 0


async def test_an_entry_is_fresh_for_half_a_minute_or_so(opened: Open, questions: Questions, clock: Clock) -> None:
    """CA-1: the soft time to live, with jitter; the answer does not wait for the look behind it."""
    async with opened() as catalogue:
        first = await known(catalogue)
        clock.now += FRESH * 0.79
        assert await known(catalogue) is first
        assert questions.count() == 1
        clock.now += FRESH * 0.42
        assert await known(catalogue) is first
        await until(lambda: _true(questions.all_started))
        assert questions.count() == 1


async def _true(value: object) -> bool:
    return bool(value)


async def test_without_a_database_what_is_known_is_good_for_five_minutes(
    backend: Backend, replica_set: ReplicaSet, opened: Open, clock: Clock
) -> None:
    """CA-1: stale while it cannot be looked up again; after that, and for what is out of service, fail closed."""
    await backend.configuration.change("globex", {"is_active": False})
    async with opened() as catalogue:
        await known(catalogue)
        assert not (await known(catalogue, "globex")).is_serving
        replica_set.kill(0)
        try:
            clock.now += STALE - 1
            assert (await known(catalogue)).is_serving
            assert not (await known(catalogue, "globex")).is_serving
            clock.now += 2
            for id in ("acme", "globex", "never-seen"):
                with pytest.raises(Unavailable):
                    await catalogue.get(id)
        finally:
            await replica_set.restart(0)

        async def is_back() -> bool:
            return await _answers(catalogue)

        await until(is_back, 10.0)


async def _answers(catalogue: Catalogue) -> bool:
    try:
        return await catalogue.get("acme") is not None
    except Unavailable:
        return False


async def test_what_is_out_of_service_is_looked_up_before_the_answer(
    backend: Backend, opened: Open, clock: Clock
) -> None:
    """CA-1, TC-8: back on as soon as it is asked for, and off as soon as it was seen to be off."""
    await backend.configuration.change("acme", {"is_active": False})
    async with opened() as catalogue:
        assert not (await known(catalogue)).is_serving
        await backend.configuration.change("acme", {"is_active": True})
        clock.now += FRESH * 1.21
        assert (await known(catalogue)).is_serving


async def test_unknown_names_are_remembered_for_a_moment(opened: Open, questions: Questions, clock: Clock) -> None:
    """CA-3, SD-10."""
    async with opened() as catalogue:
        key = fresh()
        for _ in range(100):
            assert await catalogue.get("nope") is None
            assert await catalogue.by_public_key(key) is None
            for impossible in ("No Pe", "a" * 100, "", "nope\0"):
                assert await catalogue.get(impossible) is None
                assert await catalogue.by_public_key(impossible) is None
        assert questions.count() == 2
        clock.now += UNKNOWN
        assert await catalogue.get("nope") is None
        assert questions.count() == 1


async def test_ten_thousand_wrong_names_are_hardly_a_question(opened: Open, questions: Questions) -> None:
    """CA-3, C8: one address is let look for ten, and then one a second; a neighbour and known apps are not its victims."""
    async with opened() as catalogue:
        await known(catalogue)
        questions.count()
        refused = 0
        for number in range(10_000):
            try:
                assert await catalogue.get(f"wrong-{number}", address="192.0.2.1") is None
            except TooManyRequests:
                refused += 1
        assert refused == 9_990
        assert questions.count() == 10
        assert (await known(catalogue, address="192.0.2.1")).id == "acme"
        assert (await known(catalogue, "globex", address="192.0.2.9")).id == "globex"


async def test_forged_tokens_take_nothing_from_the_server_itself(roost: Roost) -> None:
    """CA-3: a forged token may name any issuer; what the server asks for jobs and events of other apps goes on."""
    async with rest(roost, "acme") as http:
        for number in range(30):
            parts = ({"alg": ALGORITHM, "typ": TYPE, "kid": "x"}, {"app_id": f"nobody-{number}"})
            head, claims = (base64url_encode(json.dumps(part).encode()).decode() for part in parts)
            reply = await http.request("GET", "/notes", headers={"Authorization": f"Bearer {head}.{claims}.AAAA"})
            assert reply.status in (200, 401)
    with pytest.raises(TooManyRequests):
        await roost.catalogue.issuer("nobody-at-all")
    await roost.backend.apply(parse("tenants: [{id: initech}]"))
    assert "initech" not in roost.catalogue.known()
    assert await roost.catalogue.get("initech") is not None
    assert roost.settings.control_plane in roost.catalogue.known()


async def test_only_so_many_tenants_are_kept_and_those_in_use_stay(backend: Backend, opened: Open) -> None:
    """CA-1: every resource is bounded; whoever has sockets has to hear of changes."""
    names = [f"app-{number:02}" for number in range(25)]
    await documents(backend).insert_many([{"_id": name, "name": name, "public_keys": [fresh()]} for name in names])
    async with opened(most=10, in_use=lambda id: id == "app-00") as catalogue:
        for name in names:
            await known(catalogue, name)
        assert len(catalogue.known()) <= 10
        assert "app-00" in catalogue.known()
        assert "app-24" in catalogue.known()


async def test_only_some_tenants_are_taken_into_memory_at_the_start(
    backend: Backend, opened: Open, questions: Questions
) -> None:
    """TC-13, CA-1: by one question, and one that cannot be understood is left out."""
    await documents(backend).insert_many([{"_id": f"app-{n:02}", "name": f"{n}"} for n in range(25)])
    await documents(backend).update_one({"_id": "globex"}, {"$set": {"auth": {"username_field": "phone"}}})
    async with opened() as catalogue:
        await catalogue.warm(10)
        assert len(catalogue.known()) == 9
        assert questions.count() == 1
        with pytest.raises(Unavailable):
            await catalogue.get("globex")


async def test_changes_are_asked_for_where_nobody_tells_of_them(backend: Backend, opened: Open) -> None:
    """CA-4: polling by `updated_at`."""
    async with opened() as catalogue:
        before = await known(catalogue)
        assert await catalogue.get("initech") is None
        await backend.configuration.change("acme", {"plan": "large"})
        await backend.apply(parse("tenants: [{id: initech}]"))
        assert await known(catalogue) is before
        await catalogue.poll()

        async def is_seen() -> bool:
            return (await known(catalogue)).plan == "large"

        await until(is_seen, SOON)
        assert (await known(catalogue, "initech")).id == "initech"


async def test_a_change_is_seen_in_time_without_a_change_stream(
    backend: Backend, replica_set: ReplicaSet, opened: Open
) -> None:
    """CA-4, CA-6, TC-11, TC-14: within five seconds, with MongoDB alone."""
    # 40573: the change stream is only supported on replica sets.
    async with (
        failing(replica_set, 1_000, {"failCommands": ["aggregate"], "errorCode": 40573}),
        opened() as catalogue,
    ):
        await known(catalogue)
        await catalogue.start()
        await backend.configuration.change("acme", {"plan": "large"})

        async def is_seen() -> bool:
            return (await known(catalogue)).plan == "large"

        await until(is_seen, SOON + 1)


async def test_it_recovers_when_the_database_does(backend: Backend, replica_set: ReplicaSet, opened: Open) -> None:
    """CA-4, CA-6: kill, recover, and the next change is told of again."""
    told: list[Tenant] = []
    async with opened() as catalogue:
        catalogue.on_change(told.append)
        await known(catalogue)
        await catalogue.start()
        replica_set.kill(0)
        await replica_set.restart(0)

        async def is_changed() -> bool:
            try:
                await backend.configuration.change("acme", {"plan": "large"})
            except (Unavailable, NotFound):
                return False
            return True

        await until(is_changed, 10.0)
        await until(lambda: _true(told), 2 * SOON)
        assert [(tenant.id, tenant.plan) for tenant in told] == [("acme", "large")]


async def test_epochs_only_move_forward(backend: Backend, opened: Open, questions: Questions) -> None:
    """CA-5: who has heard of something newer gets nothing older."""
    async with opened() as catalogue:
        first = await known(catalogue)
        changed = await backend.configuration.change("acme", {"plan": "large"})
        questions.count()
        assert await known(catalogue) is first
        assert await known(catalogue, epoch=changed.after.epoch) == changed.after
        assert questions.count() == 1
        await documents(backend).update_one({"_id": "acme"}, {"$set": {"epoch": 1, "plan": "ancient"}})
        catalogue.invalidate("acme")
        await until(lambda: _true(questions.all_started))
        assert (await known(catalogue)).plan == "large"


async def test_a_load_that_began_before_a_change_is_not_believed(
    backend: Backend, replica_set: ReplicaSet, opened: Open, questions: Questions
) -> None:
    """CA-2: what was under way is read again."""
    async with opened() as catalogue:
        late = {"failCommands": ["find"], "blockConnection": True, "blockTimeMS": 300}
        async with failing(replica_set, 1, late):
            loading = asyncio.create_task(known(catalogue))
            await until(lambda: _true(questions.all_started))
            catalogue.invalidate("acme")
            await loading
        assert questions.count() == 2


async def test_a_key_that_was_replaced_twice_is_nobodys(backend: Backend, opened: Open) -> None:
    """TC-1, CA-1: the index by key follows the entry."""
    async with opened() as catalogue:
        (old,) = (await known(catalogue)).public_keys
        assert await catalogue.by_public_key(old) is await known(catalogue)
        for _ in range(2):
            newest = await backend.configuration.rotate_public_key("acme")
        changed = await backend.tenants.get("acme")
        assert changed is not None
        current = await known(catalogue, epoch=changed.epoch)
        assert await catalogue.by_public_key(old) is None
        assert [await catalogue.by_public_key(key) for key in newest] == [current, current]


async def test_a_tenant_that_is_gone_is_told_of_as_deleted(backend: Backend, opened: Open) -> None:
    """CA-1: its sockets have to be closed."""
    told: list[Tenant] = []
    async with opened() as catalogue:
        catalogue.on_change(told.append)
        await known(catalogue)
        await documents(backend).delete_one({"_id": "acme"})
        catalogue.invalidate("acme")

        async def is_gone() -> bool:
            return await catalogue.get("acme") is None

        await until(is_gone, SOON)
        assert [(tenant.id, tenant.status, tenant.is_serving) for tenant in told] == [("acme", "deleted", False)]


async def test_a_server_without_tenants_is_well(replica_set: ReplicaSet) -> None:
    """TC-13: it boots, is healthy, and takes in the first one without a restart."""
    roost = await Roost.start(settings_for(replica_set.uri))
    try:
        async with rest(roost, None) as probe:
            assert (await probe.request("GET", "/health")).status == 200
            assert (await probe.request("GET", "/ready")).status == 200
        assert (await handshake(roost, "appId=acme"))[1]["data"]["code"] == 404
        await roost.backend.apply(parse(TWO_APPS))

        async def is_there() -> bool:
            return (await handshake(roost, "appId=acme"))[0] == "connect"

        await until(is_there, SOON)
    finally:
        await roost.drop()


async def test_one_broken_configuration_stops_nobody_else(replica_set: ReplicaSet) -> None:
    """TC-13."""
    settings = settings_for(replica_set.uri)
    async with open_backend(settings) as backend:
        await backend.apply(parse(TWO_APPS))
        await documents(backend).update_one({"_id": "acme"}, {"$set": {"services": {"notes": {"paginate": "x"}}}})
    roost = await Roost.start(settings)
    try:
        kind, payload = await handshake(roost, "appId=acme")
        assert (kind, payload["data"]["code"]) == ("refused", 503)
        async with connect(roost, "globex") as client:
            assert await outcome(client, "find", "notes") == []
        others = [tenant.id async for tenant in roost.backend.tenants.all()]
        assert others == [settings.control_plane, "globex"], "schedules make their jobs for all others"
    finally:
        await roost.drop()
