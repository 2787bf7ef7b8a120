"""The walk through the control plane, as `docs/guide/walkthrough.md` has it: every line of it is sent to a real server."""

from __future__ import annotations

import asyncio
import json
import re
import time
from contextlib import AsyncExitStack
from typing import Any

import pytest
import socketio.exceptions
from pymongo import AsyncMongoClient

from server.main import Roost
from tests.conftest import StartRoost
from tests.integration.accounts.people import Mailbox
from tests.integration.server.test_guide import blocks
from tests.support.client import CallError, Client, connect, outcome, until
from tests.support.placed import CLUSTERS

SOMEBODY = "tenants: [{id: initech}]"
"""An app that has been there before."""
SECRET = "known-to-root-alone"
SOON = 5.0
"""Seconds in which the sockets of a suspended app are closed everywhere."""
REMAINS = {"tenant_operations", "tenant_operation_events", "tombstones"}
"""Collections of the control plane that say that there was such an app."""
_LINE = re.compile(
    r"(?P<who>\w+@\w+) (?:(?P<call>\[.*\])(?: as (?P<name>\w+))?(?: -> (?P<answer>.+))?"
    r"|hears \"(?P<event>[^\"]+)\" (?P<record>\{.*\})|is (?P<state>closed|back))"
)
_PLACE = re.compile(r"\{([a-z]+)\}")


class Walk:
    """The people of the chapter, each on a socket of his own, and what they have come to know."""

    def __init__(self, roost: Roost, mailbox: Mailbox, stack: AsyncExitStack) -> None:
        self.roost = roost
        self.mailbox = mailbox
        self.known: dict[str, str] = {}
        self.people: dict[str, Client] = {}
        self._stack = stack

    async def go(self, line: str) -> None:
        """One line."""
        step = _LINE.fullmatch(line)
        assert step is not None, line
        who = step["who"]
        if who not in self.people or step["state"] == "back":
            await self._come(who)
        client = self.people[who]
        if step["event"] is not None:
            await self._hear(client, step["event"], json.loads(step["record"]))
        elif step["state"] == "closed":
            await asyncio.wait_for(client.gone(), SOON)
        elif step["call"] is not None:
            await self._call(client, step)

    async def _come(self, who: str) -> None:
        async def connected() -> bool:
            try:
                self.people[who] = await self._stack.enter_async_context(connect(self.roost, who.partition("@")[2]))
            except socketio.exceptions.ConnectionError:
                return False
            return True

        await until(connected)

    async def _call(self, client: Client, step: re.Match[str]) -> None:
        if "{letter}" in step["call"]:
            self.known["letter"] = (await self.mailbox.one()).token
        call = json.loads(_PLACE.sub(lambda found: self.known[found[1]], step["call"]))
        answer = await outcome(client, *call)
        told = answer.wire if isinstance(answer, CallError) else answer
        assert SECRET not in json.dumps([told, [event.arguments for event in client.events]])
        expected = None if step["answer"] is None else json.loads(step["answer"])
        if isinstance(expected, int):
            assert isinstance(answer, CallError), (step[0], answer)
            assert answer.code == expected, (step[0], answer)
            return
        assert not isinstance(answer, CallError), (step[0], answer)
        assert expected is None or expected.items() <= answer.items(), (step[0], answer)
        if call[1] == "tenant-operations" or call[:2] == ["remove", "tenants"]:
            assert (await self.roost.backend.control.lifecycle.settle(answer["_id"])).state == "succeeded"
        if step["name"] is not None:
            self.known[step["name"]] = (answer["data"][0] if "data" in answer else answer)["_id"]

    async def _hear(self, client: Client, name: str, record: dict[str, Any]) -> None:
        while True:
            event = await client.next_event()
            if event.name == name and record.items() <= event.record.items():
                return


async def databases(uri: str) -> set[str]:
    """The names of all databases of the clusters that there are."""
    found: set[str] = set()
    for cluster in (uri, *CLUSTERS.uris):
        async with AsyncMongoClient[dict[str, Any]](cluster) as client:
            found |= {*await client.list_database_names()}
    return found


async def left_of(uri: str, server: str, app: str, others: set[str]) -> dict[str, int]:
    """How many documents name an app, by collection of any database, but where it says that there was one.

    `others` are databases of another server's app of this id.
    """
    found = {}
    for cluster in (uri, *CLUSTERS.uris):
        async with AsyncMongoClient[dict[str, Any]](cluster) as client:
            for name in await client.list_database_names():
                if name.startswith((server, f"t_{app}_")) and name not in others:
                    for collection in await client[name].list_collection_names():
                        if collection not in REMAINS and not collection.startswith("system."):
                            either = [{field: app} for field in ("app_id", "tenant_id", "_id", "_id.a", "name")]
                            count = await client[name][collection].count_documents({"$or": either})
                            found[f"{name}.{collection}"] = count
    return {name: count for name, count in found.items() if count}


@pytest.fixture
async def walk(roosts: StartRoost, stack: AsyncExitStack) -> Walk:
    """A server soon after its first start."""
    roost = await roosts(SOMEBODY, admin_username="root", admin_password="secret-123")
    roost.backend.control.grace.seconds = 0.0
    return Walk(roost, Mailbox(roost), stack)


@pytest.fixture
async def stack() -> Any:
    """Closes the sockets before the server."""
    async with AsyncExitStack() as stack:
        yield stack


async def test_the_walk_of_the_chapter(walk: Walk, mongod: str) -> None:
    """CP-10 to CP-16, TK-1, SY-1: the whole chapter, and nothing with its appId is left of the app that was deleted."""
    lines = [line for block in blocks("walkthrough", "walk") for line in block.splitlines()]
    assert len(lines) > 40
    assert any(SECRET in line for line in lines)
    server = walk.roost.settings.database
    others = {name for name in await databases(mongod) if name.startswith("t_")}
    for line in lines:
        await walk.go(line)
    assert await left_of(mongod, server, "acme", others) == {}
    assert len(await left_of(mongod, server, "globex", others)) > 3


async def test_others_lose_nothing_while_an_app_is_suspended(roost: Roost, stack: AsyncExitStack) -> None:
    """TC-12, CP-11: twenty sockets are closed within five seconds; of the events of another app not one is missing."""
    sockets = [await stack.enter_async_context(connect(roost, "acme")) for _ in range(20)]
    writer = await stack.enter_async_context(connect(roost, "globex"))
    listener = await stack.enter_async_context(connect(roost, "globex"))
    lifecycle, done = roost.backend.control.lifecycle, asyncio.Event()

    async def write() -> int:
        count = 0
        while not done.is_set():
            await writer.call("create", "notes", {"n": count})
            count += 1
        return count

    writing = asyncio.create_task(write())
    await listener.next_event()
    began = time.monotonic()
    operation = await lifecycle.suspend("acme")
    await asyncio.gather(*(client.gone() for client in sockets))
    assert time.monotonic() - began < SOON
    assert (await lifecycle.settle(operation.id)).state == "succeeded"
    done.set()
    count = await writing
    heard = [0, *(event.record["n"] for event in await listener.take_events())]
    assert heard == [*range(count)]
    assert writer.connected
