"""DB-7, DB-9, MG-1: schemas of databases, and how they are brought to that of this version."""

from __future__ import annotations

import asyncio

import pytest

from hooks.errors import Conflict
from hooks.tenant import Tenant
from server.main import Roost
from services.control.migrations import Migration, Migrations
from services.placement import meta
from services.placement.provider import Handle
from tests.conftest import StartRoost
from tests.integration.rules.people import keep, tenant_of
from tests.integration.server.command import environment, run
from tests.support.client import connect, outcome
from tests.support.placed import NAMED, cluster_settings, raw
from tests.support.roost import TWO_APPS

pytestmark = pytest.mark.shared_only("sets an app with a database of its own beside one in the shared database")


@pytest.fixture
async def roost(roosts: StartRoost) -> Roost:
    """One app in a database of its own, and one in the shared one; each with five records."""
    declared = TWO_APPS.replace(
        "    name: Acme\n", f"    name: Acme\n    placement: {{model: database, cluster: {NAMED}}}\n"
    )
    started = await roosts(declared, **cluster_settings())
    assert (await tenant_of(started, "acme")).placement.cluster == NAMED
    for app_id in ("acme", "globex"):
        await keep(started, app_id, "notes", *({"_id": f"n{n}", "n": n} for n in range(5)))
    return started


async def double(tenant: Tenant, handle: Handle) -> None:
    """Gives the records a second field; done again, it changes nothing."""
    await handle.raw["notes"].update_many({"app_id": tenant.id}, [{"$set": {"twice": {"$multiply": ["$n", 2]}}}])


def migrations(roost: Roost, *known: Migration) -> Migrations:
    return Migrations(roost.backend.deployment, roost.backend.tenants, database=roost.settings.database, known=known)


async def twices(roost: Roost, app_id: str) -> list[object]:
    async with raw(roost, app_id) as database:
        return [one.get("twice") async for one in database["notes"].find({"app_id": app_id}, sort=[("_id", 1)])]


async def test_every_database_is_migrated_once_wherever_it_is(roost: Roost) -> None:
    runs: list[str] = []

    async def counted(tenant: Tenant, handle: Handle) -> None:
        runs.append(tenant.id)
        await double(tenant, handle)

    runner = migrations(roost, Migration(101, "twice", counted))
    planned = await runner.run(dry_run=True)
    assert planned.done["acme"] == planned.done["globex"] == ["twice"]
    assert await twices(roost, "acme") == [None] * 5
    assert (await runner.run()).failed == {}
    for app_id in ("acme", "globex"):
        assert await twices(roost, app_id) == [0, 2, 4, 6, 8]
    again = await runner.run()
    assert again.done["acme"] == again.done["globex"] == []
    assert sorted(runs) == sorted(["acme", "globex", roost.settings.control_plane])
    async with connect(roost, "acme") as ada:
        assert len(await ada.call("find", "notes", {})) == 5


async def test_an_interrupted_migration_goes_on_where_it_ended(roost: Roost) -> None:
    runs: list[str] = []

    def step(name: str, fails: list[bool]) -> Migration:
        async def work(tenant: Tenant, handle: Handle) -> None:
            runs.append(f"{tenant.id} {name}")
            if tenant.id == "acme" and fails.pop():
                raise RuntimeError(name)

        return Migration(100 + int(name), name, work)

    runner = migrations(roost, step("1", [False]), step("2", [False, True]), step("3", [False]))
    report = await runner.run(canaries=["acme"])
    assert [*report.failed] == ["acme"]
    # The canary has failed: no other app was begun.
    assert report.is_stopped
    assert {run.split()[0] for run in runs} == {"acme"}
    assert (await runner.run(canaries=["acme"])).failed == {}
    assert [run for run in runs if run.startswith("acme")] == ["acme 1", "acme 2", "acme 2", "acme 3"]
    with pytest.raises(Conflict):
        await runner.run(canaries=["nobody"])


async def test_it_stops_where_too_many_fail(roost: Roost) -> None:
    async def fail(tenant: Tenant, handle: Handle) -> None:
        raise Conflict("It does not work")

    report = await migrations(roost, Migration(101, "no", fail)).run(at_once=1, most=2)
    assert len(report.failed) == 2
    assert report.is_stopped
    assert {*report.failed.values()} == {"It does not work"}


async def test_two_runners_do_not_migrate_one_app_at_once(roost: Roost) -> None:
    begun, going = asyncio.Event(), asyncio.Event()

    async def wait(tenant: Tenant, handle: Handle) -> None:
        begun.set()
        await going.wait()

    first = asyncio.create_task(migrations(roost, Migration(101, "slow", wait)).run(canaries=["acme"]))
    await begun.wait()
    report = await migrations(roost, Migration(101, "slow", wait)).run(canaries=["acme"])
    assert report.failed == {"acme": "Another process migrates this app"}
    going.set()
    assert (await first).failed == {}


@pytest.mark.parametrize(("version", "is_served"), [(99, False), (100, True), (199, True), (200, False)])
async def test_a_database_of_another_version(roost: Roost, version: int, is_served: bool) -> None:
    """Older than what is supported, or of a later major version: 503, and never a guess."""
    async with raw(roost, "acme") as database:
        await meta.mark(database, schema_version=version)
    roost.backend.placements.include(roost.backend.placements.own[0])
    async with connect(roost, "acme") as ada:
        answer = await outcome(ada, "find", "notes", {})
        assert isinstance(answer, list) is is_served
        if not is_served:
            assert answer.data == {"reason": "TenantDatabaseUnavailable"}


async def test_the_command(roost: Roost, mongod: str) -> None:
    clusters = roost.settings.clusters
    assert clusters is not None
    env = environment(mongod, roost.settings.database, ROOST_CLUSTERS=clusters.get_secret_value())
    async with raw(roost, "acme") as database:
        await database["users"].drop_index("app_id_1__id_1")
    ended = await run("migrate", "--canary", "acme", env=env)
    assert (ended.code, ended.err) == (0, "")
    assert "acme: nothing to migrate" in ended.out
    async with raw(roost, "acme") as database:
        assert "app_id_1__id_1" in await database["users"].index_information()
    assert (await run("migrate", "--canary", "nobody", env=env)).code == 1
