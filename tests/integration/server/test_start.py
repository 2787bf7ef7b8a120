"""What a start of a server asks of the database, and that nothing works on when its data is deleted."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from pymongo.monitoring import CommandStartedEvent

from server.main import Roost
from services.declaration import parse
from tests.integration.database.commands import Commands
from tests.support.client import rest
from tests.support.placed import raw
from tests.support.roost import TWO_APPS, settings_for, start_roost

DECLARED = ("create", "collMod", "createIndexes")
"""Commands that say what a collection is."""
MOST_AT_FIRST = 300
MOST_AGAIN = 130
OF_THE_SHARED = pytest.mark.shared_only(
    "counts what a server does to its two own databases, of which apps may be in one"
)
BACKGROUND = {"sync", "sync again", "moving", "heartbeat", "catalogue", "jobs", "operations", "slots", "domains"}


def of(event: CommandStartedEvent) -> str:
    """The collection that a command is about."""
    return f"{event.database_name}.{event.command[event.command_name]}"


@pytest.fixture
def commands() -> Commands:
    return Commands()


@OF_THE_SHARED
async def test_collections_are_indexed_once_and_before_they_hold_anything(mongod: str, commands: Commands) -> None:
    """The first start: to index a collection that holds something costs a tenth of a second, whatever it holds."""
    roost = await Roost.start(settings_for(mongod), parse(TWO_APPS), listeners=[commands])
    try:
        sent = [event for event in commands.all_started if event.database_name.startswith(roost.settings.database)]
        assert len(commands.all_started) < MOST_AT_FIRST
    finally:
        await roost.drop()
    for name in DECLARED:
        assert [*Counter(of(event) for event in sent if event.command_name == name).items()] == [
            (collection, 1) for collection in dict.fromkeys(of(event) for event in sent if event.command_name == name)
        ]
    filled: set[str] = set()
    for event in sent:
        if event.command_name == "createIndexes":
            assert of(event) not in filled
        elif event.command_name in ("insert", "update", "findAndModify"):
            filled.add(of(event))
    assert filled


@OF_THE_SHARED
async def test_a_start_over_what_is_there_changes_no_collection(mongod: str, commands: Commands) -> None:
    """GU-1: validators and indexes are looked at by each start, and each once."""
    settings = settings_for(mongod)
    await (await Roost.start(settings, parse(TWO_APPS))).stop()
    roost = await Roost.start(settings, parse(TWO_APPS), listeners=[commands])
    try:
        assert commands.named("create") == []
        assert commands.named("collMod") == []
        looked_at = Counter(of(event) for event in commands.all_started if event.command_name == "createIndexes")
        assert set(looked_at.values()) == {1}
        assert {f"{settings.database}.{name}" for name in ("users", "roles", "messages")} <= {*looked_at}
        # What Roost keeps, and what the two apps declare.
        assert len(commands.named("listCollections")) <= 2
        assert len(commands.all_started) < MOST_AGAIN
    finally:
        await roost.drop()


async def test_a_validator_that_is_gone_is_back_after_a_start(mongod: str) -> None:
    """GU-1: whoever takes it away does so until the next start; in a database of an app's own, until it is used after that."""
    first = await start_roost(mongod)
    async with raw(first, "acme") as database:
        kept = await options(database)
        await database.command({"collMod": "roles", "validationLevel": "off"})
        await database.command({"collMod": "messages", "validator": {}})
    await first.stop()
    second = await start_roost(mongod, database=first.settings.database)
    try:
        async with rest(second, "acme") as client, raw(second, "acme") as database:
            await client.call("find", "notes")
            assert await options(database) == kept
    finally:
        await second.drop()


async def options(database: Any) -> dict[str, Any]:
    """What the collections of a database are."""
    return {entry["name"]: entry["options"] async for entry in await database.list_collections()}


class Busy(Commands):
    """Notes which tasks of a server still work when its databases are dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.busy: set[str] = set()

    def started(self, event: CommandStartedEvent) -> None:
        super().started(event)
        if event.command_name == "dropDatabase":
            self.busy |= {task.get_name() for task in asyncio.all_tasks()} & BACKGROUND


@OF_THE_SHARED
async def test_nothing_works_on_when_the_databases_are_dropped(mongod: str) -> None:
    """The sync, for one, would ask for a control plane that is not there any more."""
    watch = Busy()
    roost = await Roost.start(settings_for(mongod), parse(TWO_APPS), listeners=[watch])
    assert {task.get_name() for task in asyncio.all_tasks()} >= BACKGROUND
    await roost.drop()
    assert len(watch.named("dropDatabase")) == 2
    assert watch.busy == set()
