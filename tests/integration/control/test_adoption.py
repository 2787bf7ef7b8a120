"""Adoption of an application without tenants (TENANCY CO-6): checked first, resumable, reversible, and scoped ever after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from hooks.errors import Unavailable
from server.main import Roost
from services.control.adoption import Adoption
from services.placement.writes import Place
from tests.conftest import StartRoost
from tests.integration.server.command import environment, run
from tests.support.client import rest
from tests.support.placed import MODELS, database_of


async def test_a_database_becomes_an_app_and_back(roost: Roost, mongod: str) -> None:
    """CO-6: run under the tripwire; a second run copies only what is missing; taking it back leaves what is newer."""
    env = environment(mongod, roost.settings.database)
    client = roost.backend.deployment.client
    source = f"{roost.settings.database}_source_control"
    try:
        ids: list[Any] = [ObjectId(), ObjectId(), "chosen"]
        await client[source]["notes"].insert_many([{"_id": id, "text": str(id)} for id in ids])
        command = ("tenants", "adopt", "--as", "acme", "--database", source)
        dry = await run(*command, "--dry-run", env=env)
        assert (dry.code, dry.out) == (0, "acme: notes can be adopted\n"), dry.err
        first = await run(*command, env=env)
        copied, tried = first.out.splitlines()
        assert copied == "acme: notes\t3 found\t3 copied", first.err
        services, commands, unscoped = tried.removeprefix("acme: ").split("\t")
        assert (first.code, services, unscoped) == (0, "3 services tried", "0 unscoped")
        assert int(commands.split()[0]) >= 10, "each service finds, gets and would write"
        async with rest(roost, "acme") as ours, rest(roost, "globex") as theirs:
            assert {note["_id"] for note in await ours.call("find", "notes")} == {str(id) for id in ids}
            assert await theirs.call("find", "notes") == []
            await ours.call("remove", "notes", "chosen")
            await ours.call("create", "notes", {"text": "newer"})
            again = await run(*command, env=env)
            assert again.out.startswith("acme: notes\t3 found\t1 copied\nacme: 3 services tried\t")
            back = await run(*command, "--reverse", env=env)
            assert back.out == "acme: notes\t3 found\t3 deleted\n"
            assert [note["text"] for note in await ours.call("find", "notes")] == ["newer"]
        assert await client[source]["notes"].count_documents({}) == 3
        await client[source]["notes"].insert_one({"_id": 7})
        refused = await run(*command, env=env)
        assert refused.code == 1
        assert "neither an ObjectId nor a text" in refused.err
    finally:
        await client.drop_database(source)


@pytest.mark.parametrize("model", MODELS)
async def test_the_copies_are_where_the_app_is_and_wait_for_a_move(roosts: StartRoost, model: str) -> None:
    """DB-1: by every isolation model; nothing is written to a database from which the app is being moved."""
    roost = await roosts(model=model)
    backend = roost.backend
    client = backend.deployment.client
    source = f"{roost.settings.database}_source_control"
    tenant = roost.catalogue.peek("acme")
    assert tenant is not None
    try:
        await client[source]["notes"].insert_many([{"_id": "one"}, {"_id": "two"}])
        adoption = Adoption(backend.deployment, backend.placements, backend.writes, source=source)
        assert await adoption.check(tenant) == ["notes"]
        assert (await adoption.adopt(tenant, "notes")).changed == 2
        async with rest(roost, "acme") as ours:
            assert {note["_id"] for note in await ours.call("find", "notes")} == {"one", "two"}
        kept = database_of(roost)["notes"]
        assert await kept.count_documents({"app_id": "acme"}) == 2
        is_here = tenant.placement.database in await client.list_database_names()
        assert is_here is (model == "shared"), "the server's own deployment has none of them"
        place = Place(tenant.placement, tenant.epoch + 1, is_frozen=True)
        assert backend.writes.place(tenant.id, place)
        await client[source]["notes"].insert_one({"_id": "three"})
        for act in (adoption.adopt, adoption.take_back):
            with pytest.raises(Unavailable, match="is being moved"):
                await act(tenant, "notes")
        assert await kept.count_documents({"app_id": "acme"}) == 2
    finally:
        await client.drop_database(source)


LEAKY = """
async def look_around(context):
    client = context.app.storage.store.client
    await client[DATABASE]["notes"].find_one({})


def configure(app):
    app.hooks({"before": {"find": [look_around]}})
"""


async def test_an_adoption_ends_with_the_tripwire(roost: Roost, mongod: str, tmp_path: Path) -> None:
    """CO-6: a plug-in that asks for everybody's records is found out; so is a collection that nobody serves."""
    code = LEAKY.replace("DATABASE", repr(roost.settings.database))
    (tmp_path / "leaky.py").write_text(code, encoding="utf-8")
    env = environment(mongod, roost.settings.database, ROOST_MODULES="leaky", PYTHONPATH=str(tmp_path))
    client = roost.backend.deployment.client
    source = f"{roost.settings.database}_source_control"
    try:
        await client[source]["places"].insert_one({"text": "canary"})
        ended = await run("tenants", "adopt", "--as", "acme", "--database", source, env=env)
        assert ended.code == 1
        assert "places has no service" in ended.err
        assert f"Not tied to the app:\n{roost.settings.database}.notes: find\n" in ended.err
        assert not ended.out.endswith("\t0 unscoped\n")
        assert "canary" not in ended.out + ended.err
    finally:
        await client.drop_database(source)
