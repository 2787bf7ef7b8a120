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


async def catalog(client: AsyncMongoClient[dict[str, Any]], name: str) -> dict[str, Any]:
    """All collections of a server's databases: their options, their indexes, and how many documents they have."""
    found: dict[str, Any] = {}
    for database in (client[name], client[control_database(name)]):
        async for entry in await database.list_collections():
            collection = database[entry["name"]]
            indexes = await collection.index_information()
            count = await collection.count_documents({})
            found[f"{database.name.removeprefix(name)}.{collection.name}"] = (entry["options"], indexes, count)
    return found


async def test_a_database_comes_back_as_a_first_start_has_left_it(mongod: str) -> None:
    first = await Roost.start(settings_for(mongod))
    async with AsyncMongoClient[dict[str, Any]](mongod) as client:
        shapes = {place: shape[:2] for place, shape in (await catalog(client, first.settings.database)).items()}
        await first.drop()
        roost = await start_roost(mongod, APPS)
        name = roost.settings.database
        data, control = client[name], client[control_database(name)]
        await data["sessions"].create_index("strange")
        await data["roles"].drop_indexes()
        await data.command({"collMod": "users", "validator": {}})
        await control["jobs"].insert_one({"strange": [1, 2]})
        await control["strange"].insert_one({})
        await roost.drop()
        assert RECYCLING.take(mongod) == name
        left = await catalog(client, name)
        altered = {".sessions", ".roles", ".users"}
        assert {place: shape[:2] for place, shape in left.items()} == {
            place: shape for place, shape in shapes.items() if place not in altered
        }
        assert [place for place, shape in left.items() if shape[2]] == []
        again = await Roost.start(settings_for(mongod, database=name))
        assert {place: shape[:2] for place, shape in (await catalog(client, name)).items()} == shapes
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
