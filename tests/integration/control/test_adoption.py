"""Adoption of an application without tenants (TENANCY CO-6): checked first, resumable, reversible, and scoped ever after."""

from __future__ import annotations

from typing import Any

from bson import ObjectId

from server.main import Roost
from tests.integration.server.command import environment, run
from tests.support.client import rest


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
        assert first.out == "acme: notes\t3 found\t3 copied\n", first.err
        async with rest(roost, "acme") as ours, rest(roost, "globex") as theirs:
            assert {note["_id"] for note in await ours.call("find", "notes")} == {str(id) for id in ids}
            assert await theirs.call("find", "notes") == []
            await ours.call("remove", "notes", "chosen")
            await ours.call("create", "notes", {"text": "newer"})
            again = await run(*command, env=env)
            assert again.out == "acme: notes\t3 found\t1 copied\n"
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
