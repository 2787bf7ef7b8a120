"""A server that stops and starts again under the official client."""

from __future__ import annotations

import asyncio

from tests.acceptance.conftest import APPS
from tests.acceptance.javascript import run
from tests.acceptance.transports import each_transport
from tests.conftest import StartRoost
from tests.support.roost import start_roost
from tests.support.tripwire import Tripwire

PROMPT = 5
"""Seconds in which a server has to stop although clients are connected."""


@each_transport
async def test_clients_come_back_to_a_server_that_was_restarted(
    mongod: str, tripwire: Tripwire, roosts: StartRoost, transports: list[str]
) -> None:
    first = await start_roost(mongod, APPS, tripwire=tripwire)

    async def restart() -> None:
        async with asyncio.timeout(PROMPT):
            await first.stop()
        await roosts(APPS, port=first.port, database=first.settings.database)

    found = await run("restart", meanwhile=restart, url=first.url, appId="acme", transports=transports)

    assert found["gone"]["active"], found["gone"]["reason"]
    assert found["after"]["result"]["text"] == "after"
    assert [note["text"] for note in found["notes"]["result"]["data"]] == ["before", "after"]
    assert found["event"]["text"] == "live"
