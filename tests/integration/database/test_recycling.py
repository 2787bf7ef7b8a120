"""Tests get databases that earlier ones have had: nothing of what these did is left."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo import AsyncMongoClient

from server.main import Roost
from services.control.nodes import COLLECTION as NODES
from services.control.tenants import control_database
from tests.support.recycling import RECYCLING
from tests.support.roost import settings_for, start_roost

APPS = """
tenants:
  - id: acme
    services:
      papers: {indexes: [[title]]}
"""


async def prepared(client: AsyncMongoClient[dict[str, Any]], name: str) -> dict[str, Any]:
    """Options and indexes of the collections that a start makes; others are there once they have been written to."""
    found: dict[str, Any] = {}
    for database in (client[name], client[control_database(name)]):
        async for entry in await database.list_collections():
            shape = (entry["options"], await database[entry["name"]].index_information())
            if entry["options"] or len(shape[1]) > 1:
                found[f"{database.name.removeprefix(name)}.{entry['name']}"] = shape
    return found


async def test_a_database_comes_back_as_a_first_start_has_left_it(mongod: str) -> None:
    first = await Roost.start(settings_for(mongod))
    async with AsyncMongoClient[dict[str, Any]](mongod) as client:
        wanted = await prepared(client, first.settings.database)
        await first.drop()
        roost = await start_roost(mongod, APPS)
        name = roost.settings.database
        data, control = client[name], client[control_database(name)]
        await data["sessions"].create_index("strange")
        await data["roles"].drop_indexes()
        await data.command({"collMod": "users", "validator": {}})
        await control["jobs"].insert_one({"strange": 1})
        await control["strange"].insert_one({})
        await roost.drop()

        assert RECYCLING.take(mongod) == name
        altered = {".sessions", ".roles", ".users"}
        assert await prepared(client, name) == {place: wanted[place] for place in wanted.keys() - altered}
        collections = [database[own] for database in (data, control) for own in await database.list_collection_names()]
        assert "strange" not in {collection.name for collection in collections}
        assert [collection.name for collection in collections if await collection.find_one()] == []

        again = await Roost.start(settings_for(mongod, database=name))
        assert await prepared(client, name) == wanted
        await again.stop()
        RECYCLING.give_back(name)


@pytest.mark.parametrize("stays", [True, False], ids=["somebody stays", "all have left"])
async def test_a_database_in_which_somebody_works_is_used_by_nobody_else(mongod: str, stays: bool) -> None:
    roost = await start_roost(mongod)
    name = roost.settings.database
    async with AsyncMongoClient[dict[str, Any]](mongod) as client:
        await roost.drop()
        if stays:
            await client[control_database(name)][NODES].insert_one({"_id": "another"})
        taken = RECYCLING.take(mongod)
        assert (taken != name) is stays
        assert (name in await client.list_database_names()) is not stays
        RECYCLING.give_back(taken)
        assert RECYCLING.take(mongod) == taken
        RECYCLING.give_back(taken)
