"""SY-1, SY-10, SY-12, SY-14: apps that do not answer, switches, predicates, the night and the command line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from typer.testing import CliRunner

from hooks.context import Record
from server.backend import StartError
from server.cli.main import cli
from server.main import Roost
from server.settings import SyncSettings, load
from server.sync import RUN
from services.protection import COLLECTIONS, SyncCapability
from tests.conftest import StartRoost
from tests.integration.control.managers import control_collection
from tests.integration.server.command import environment
from tests.integration.sync.people import APPS, CONTROL_PLANE, NORTH, SOUTH, manager, quiet, tenant
from tests.support.client import fresh, until
from tests.support.roost import start_roost

WAIT = {"$wait": "sync"}
NOWHERE = {"model": "cluster", "cluster": "gone", "database": "t_gone", "credentials_ref": None, "region": None}


async def copies(roost: Roost, app: str, collection: str = "roles", **chosen: Any) -> list[Record]:
    """What an app has of what came from the control plane."""
    found = roost.backend.isolation.collection(await tenant(roost, app), collection)
    return await found.find({"source_id": {"$exists": True}, **chosen})


@asynccontextmanager
async def away(roost: Roost, app: str) -> AsyncIterator[None]:
    """An app whose database cannot be reached, until the block ends."""
    tenants = control_collection(roost, "tenants")
    before = await tenants.find_one({"_id": app})
    await tenants.update_one({"_id": app}, {"$set": {"placement": NOWHERE}})
    try:
        yield
    finally:
        await tenants.update_one({"_id": app}, {"$set": {"placement": before["placement"]}})


def settings_of(**wanted: Any) -> SyncSettings:
    """The setting `sync`."""
    return SyncSettings.model_validate(wanted)


async def test_one_that_does_not_answer_delays_nobody(roosts: StartRoost) -> None:
    """SY-10: the others have it at once; where it failed it is on record, tried again, and right as soon as it can be."""
    roost = await roosts(APPS)
    async with manager(roost) as root:
        async with away(roost, SOUTH):
            made = await root.call("create", "roles", {"name": fresh()}, WAIT)
            status = {row["target"]: row["status"] for row in made["sync"]["results"] if row["entity"] == "roles"}
            assert status == {NORTH: "synced", SOUTH: "pending"}
            await root.call("patch", "roles", made["_id"], {"description": "later"}, WAIT)
            rows = await root.call(
                "find", "sync-status", {"target": SOUTH, "source_id": made["_id"], "entity": "roles"}
            )
            assert rows["data"][0]["attempts"] >= 1
            assert rows["oldest_unsynced"] > 0
            assert (await copies(roost, NORTH))[0]["description"] == "later"
            await until(lambda: roost.backend.sync.worker.age > 0)
        await quiet(roost)
        assert (await copies(roost, SOUTH))[0]["description"] == "later"
        assert (await root.call("find", "sync-status", {"target": SOUTH}))["oldest_unsynced"] == 0


async def test_it_is_given_up_and_taken_up_again(roosts: StartRoost) -> None:
    """SY-10, SY-12: parked as `failed` after N attempts; a comparison, by a person or at night, mends it."""
    roost = await roosts(APPS, sync=settings_of(attempts=1))
    async with manager(roost) as root:
        async with away(roost, SOUTH):
            made = await root.call("create", "roles", {"name": fresh()}, WAIT)

            async def is_given_up() -> bool:
                row = await root.call("get", "sync-status", f"{SOUTH}:roles:{made['_id']}")
                return bool(row["status"] == "failed")

            await until(is_given_up, 15)
            run = await roost.backend.sync.runs.begin("while-away")
            await roost.backend.sync.runs.work(run["_id"])
            assert (await roost.backend.sync.runs.get("while-away") or {})["failed"] == 1
        plane = await tenant(roost, CONTROL_PLANE)
        job = await roost.jobs.enqueue_control(RUN, plane)

        async def is_done() -> bool:
            done = await roost.backend.sync.runs.get(job)
            return done is not None and done["state"] == "done"

        await until(is_done)
        assert "sync" in roost.jobs.schedules
        assert len(await copies(roost, SOUTH)) == 1
        assert (await root.call("get", "sync-status", f"{SOUTH}:roles:{made['_id']}"))["status"] == "synced"


async def test_a_run_goes_on_where_it_was(roosts: StartRoost) -> None:
    """SY-12: resumable by its cursor: what is behind it is not looked at again."""
    roost = await roosts(APPS)
    sync = roost.backend.sync
    async with manager(roost) as root:
        await root.call("create", "roles", {"name": fresh()}, WAIT)
    for app in (NORTH, SOUTH):
        raw = roost.backend.isolation.copies(await tenant(roost, app), "roles", SyncCapability())
        await raw.delete_many({})
    await sync.runs.begin("half")
    await control_collection(roost, "sync_runs").update_one({"_id": "half"}, {"$set": {"cursor": NORTH}})
    done = await sync.runs.work("half")
    assert (done["state"], done["counts"]["created"]) == ("done", 1)
    assert [len(await copies(roost, app)) for app in (NORTH, SOUTH)] == [0, 1]


async def test_no_more_than_some_at_once(roosts: StartRoost, monkeypatch: pytest.MonkeyPatch) -> None:
    """SY-10, 10.4, 24: never more tenants at a time than is set."""
    roost = await roosts(APPS + "".join(f"  - id: more-{n}\n" for n in range(5)), sync=settings_of(at_once=2))
    mending, seen, most = roost.backend.sync.mending, [0], [0]
    some = mending.some

    async def watched(*arguments: Any, **options: Any) -> Any:
        seen[0] += 1
        most[0] = max(most[0], seen[0])
        try:
            return await some(*arguments, **options)
        finally:
            seen[0] -= 1

    monkeypatch.setattr(mending, "some", watched)
    async with manager(roost) as root:
        made = await root.call("create", "roles", {"name": fresh()}, WAIT)
    assert {row["status"] for row in made["sync"]["results"]} == {"synced"}
    assert most[0] == 2


def only_public(entity: str, record: Record) -> bool:
    """A predicate as a deployer writes it."""
    return entity != "roles" or record["name"].startswith("public")


async def test_a_predicate_decides(roosts: StartRoost) -> None:
    """SY-8: `should_sync` of the setting; one that cannot be had is told at the start."""
    roost = await roosts(APPS, sync=settings_of(should_sync=f"{__name__}:only_public"))
    async with manager(roost) as root:
        await root.call("create", "roles", {"name": fresh("private")}, WAIT)
        shown = await root.call("create", "roles", {"name": fresh("public")}, WAIT)
        assert [copy["source_id"] for copy in await copies(roost, NORTH)] == [shown["_id"]]
        await root.call("patch", "roles", shown["_id"], {"name": fresh("private")}, WAIT)
        assert await copies(roost, NORTH) == []
    with pytest.raises(StartError, match="should_sync"):
        await roosts(APPS, sync=settings_of(should_sync="nowhere:nothing"))


@pytest.mark.parametrize("on_disable", ["keep_protected", "release", "remove"])
async def test_what_becomes_of_copies_that_are_not_synced_any_more(mongod: str, on_disable: str) -> None:
    """SY-1, SY-14: kept and protected, left to the app, or removed; never protected orphans that nobody asked for."""
    first = await start_roost(mongod, APPS)
    database = first.settings.database
    async with manager(first) as root:
        role = await root.call("create", "roles", {"name": fresh()}, WAIT)
        await root.call(
            "create",
            f"roles/{role['_id']}/permissions",
            {"rs_identifier": "management", "permission": "read:users"},
            WAIT,
        )
        await root.call("create", "connections", {"name": fresh(), "strategy": "google"}, WAIT)
    await first.stop()
    second = await start_roost(mongod, APPS, database=database, sync=settings_of(roles=False, on_disable=on_disable))
    try:
        north = await tenant(second, NORTH)
        roles = second.backend.isolation.collection(north, "roles")
        triples = second.backend.isolation.collection(north, "role_permissions")

        async def is_settled() -> bool:
            runs = control_collection(second, "sync_runs")
            return bool(await runs.count_documents({"state": "done"}) == 1)

        if on_disable != "keep_protected":
            await until(is_settled)
        left = await roles.find({})
        kept = [(role.get("is_system"), "source_id" in role) for role in left]
        assert kept == {"keep_protected": [(True, True)], "release": [(False, False)], "remove": []}[on_disable]
        assert await triples.count({}) == (0 if on_disable == "remove" else 1)
        assert await triples.count({"is_system": True}) == (1 if on_disable == "keep_protected" else 0)
        assert len(await copies(second, NORTH, "connections")) == 1
        async with manager(second) as root:
            await root.call("create", "roles", {"name": fresh()}, WAIT)
        assert len(await roles.find({})) == len(left)
    finally:
        await second.drop()


async def test_what_becomes_of_permissions_alone(mongod: str) -> None:
    """SY-1, SY-14: `role_permissions` has a switch of its own: the roles stay, and what they allow goes."""
    first = await start_roost(mongod, APPS)
    async with manager(first) as root:
        role = await root.call("create", "roles", {"name": fresh()}, WAIT)
        triple = {"rs_identifier": "management", "permission": "read:users"}
        await root.call("create", f"roles/{role['_id']}/permissions", triple, WAIT)
    assert len(await copies(first, NORTH, "role_permissions")) == 1
    await first.stop()
    wanted = settings_of(role_permissions=False, on_disable="remove")
    second = await start_roost(mongod, APPS, database=first.settings.database, sync=wanted)
    try:

        async def is_gone() -> bool:
            return not await copies(second, NORTH, "role_permissions")

        await until(is_gone)
        assert len(await copies(second, NORTH, "roles")) == 1
    finally:
        await second.drop()


@pytest.mark.parametrize("text", ['{"roles": 3}', '{"unknown": true}', '{"at_once": 0}', '{"should_sync": "no"}'])
def test_the_setting_is_checked(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """SY-1: each type has a switch, `false` is none at all, permissions follow the roles; mistakes are told."""
    monkeypatch.setenv("ROOST_SYNC", text)
    with pytest.raises(Exception, match="ROOST_SYNC"):
        load()


@pytest.mark.parametrize(
    ("text", "on"),
    [
        ("true", {"resource_servers", "roles", "role_permissions", "connections"}),
        ("false", set()),
        ('{"roles": false}', {"resource_servers", "connections"}),
        ('{"role_permissions": false, "connections": false}', {"resource_servers", "roles"}),
    ],
)
def test_each_type_has_a_switch(monkeypatch: pytest.MonkeyPatch, text: str, on: set[str]) -> None:
    """SY-1: all default to true."""
    monkeypatch.setenv("ROOST_SYNC", text)
    switches = load().sync.switches()
    assert {name for name in COLLECTIONS if switches.has(name)} == on


async def test_the_command_line_compares(mongod: str) -> None:
    """SY-12: `sync status` and `sync run` with `--app`, `--all`, `--dry-run`."""
    roost = await start_roost(mongod, APPS)
    try:
        async with manager(roost) as root:
            role = await root.call("create", "roles", {"name": fresh()}, WAIT)
        for app in (NORTH, SOUTH):
            raw = roost.backend.isolation.copies(await tenant(roost, app), "roles", SyncCapability())
            await raw.delete_many({})
        env = environment(mongod, roost.settings.database, ROOST_LOG_LEVEL="error")

        async def command(*arguments: str) -> str:
            return await asyncio.to_thread(_invoke, env, arguments)

        assert "created\t1" in await command("run", "--app", NORTH, "--dry-run")
        assert await copies(roost, NORTH) == []
        assert "created\t1" in await command("run", "--app", NORTH)
        assert [copy["source_id"] for copy in await copies(roost, NORTH)] == [role["_id"]]
        assert "created\t1" in await command("run", "--all")
        assert len(await copies(roost, SOUTH)) == 1
        assert "synced\t" in await command("status", "--all")
    finally:
        await roost.drop()


def _invoke(env: Mapping[str, str], arguments: tuple[str, ...]) -> str:
    outcome = CliRunner().invoke(cli, ["sync", *arguments], env=env)
    assert outcome.exit_code == 0, outcome.output
    return outcome.output
