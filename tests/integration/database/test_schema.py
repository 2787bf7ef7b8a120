from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from hooks.errors import GeneralError
from services.database.deployment import Deployment
from services.database.schema import VALIDATOR, CollectionSchema, Index, ensure, listed
from services.store import Collection, Namespace
from tests.integration.database.commands import Commands, user
from tests.integration.database.conftest import USERS
from tests.support.mongod import ReplicaSet


async def test_many_processes_may_ensure_at_once(deployment: Deployment, collection: Collection) -> None:
    database = deployment.client[collection.namespace.database]
    schema = CollectionSchema("crowd", USERS.indexes)
    listing = asyncio.ensure_future(listed(database, ["crowd"]))
    await asyncio.gather(*(ensure(database, schema, listing) for _ in range(8)))
    assert set(await database["crowd"].index_information()) == {
        "_id_",
        "app_id_1__id_1",
        "app_id_1_username_key_1_unique",
    }


async def test_the_second_time_costs_nothing(
    deployment: Deployment, collection: Collection, commands: Commands
) -> None:
    schema = CollectionSchema("once")
    await asyncio.gather(*(deployment.ensure(collection.namespace.database, schema) for _ in range(5)))
    assert len(commands.named("createIndexes")) == 2  # that of the fixture, and ours
    before = len(commands.all_started)
    await deployment.ensure(collection.namespace.database, schema)
    assert len(commands.all_started) == before


async def test_a_collection_that_is_there_gets_the_validator(deployment: Deployment, collection: Collection) -> None:
    name = collection.namespace.database
    database = deployment.client[name]
    await database.create_collection("old", validator={"n": {"$gt": 0}}, validationAction="warn")
    await ensure(database, CollectionSchema("old"), listed(database, ["old"]))
    (entry,) = [c async for c in await database.list_collections(filter={"name": "old"})]
    assert entry["options"]["validator"] == VALIDATOR
    assert entry["options"]["validationAction"] == "error"
    with pytest.raises(GeneralError):
        await deployment.collection(Namespace(name, "old")).insert([{"_id": "1", "n": 1}])


async def test_a_collection_as_it_should_be_is_not_locked_again(
    deployment: Deployment, collection: Collection, commands: Commands
) -> None:
    database = deployment.client[collection.namespace.database]
    await ensure(database, USERS, listed(database, ["users"]))
    assert commands.named("collMod") == []


async def test_a_failure_is_told_and_the_next_call_tries_again(deployment: Deployment, collection: Collection) -> None:
    name = collection.namespace.database
    await deployment.collection(Namespace(name, "users")).insert([user("1", mail="x"), user("2", mail="x")])
    schema = CollectionSchema("users", (Index((("app_id", 1), ("mail", 1)), unique=True),))
    for _ in range(2):
        with pytest.raises(Exception, match="mail"):
            await deployment.ensure(name, schema)
    await collection.delete_many({"app_id": "acme"})
    await deployment.ensure(name, schema)


async def test_a_unique_index_is_about_documents_that_have_the_fields(collection: Collection) -> None:
    await collection.insert([user("1"), user("2")])
    assert await collection.count({"app_id": "acme"}) == 2


class AtOnce(CommandListener):
    """How many commands that make collections were under way at the same time."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name in ("create", "createIndexes"):
            self.now += 1
            self.most = max(self.most, self.now)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        self._ended(event.command_name)

    def failed(self, event: CommandFailedEvent) -> None:
        self._ended(event.command_name)

    def _ended(self, name: str) -> None:
        if name in ("create", "createIndexes"):
            self.now -= 1


async def test_collections_that_are_made_leave_connections_to_calls(replica_set: ReplicaSet) -> None:
    """PO-2: a small pool, as an app of its own has; half of it is for whoever calls meanwhile."""
    at_once = AtOnce()
    deployment = Deployment(replica_set.uri, pool_size=4, event_listeners=[at_once])
    await deployment.open()
    database = f"test_{uuid4().hex}"
    try:
        await deployment.ensure(database, *(CollectionSchema(f"c{number}", USERS.indexes) for number in range(12)))
        assert len(await deployment.client[database].list_collection_names()) == 12
        assert at_once.most == 2
    finally:
        await deployment.client.drop_database(database)
        await deployment.close()
