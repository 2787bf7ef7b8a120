"""Three processes on one database, one of which is killed: the others go on, and its clients are served by them."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from uuid import uuid4

import pytest

from tests.integration.server.command import environment, serving
from tests.support.client import connect, until

APPS = "tenants: [{id: acme, services: {notes: {rules: {default: public}}}}]\n"


@pytest.mark.faults
@pytest.mark.timeout(180)
async def test_f5_a_killed_node_costs_its_own_sockets_alone(mongod: str, tmp_path: Path) -> None:
    """F5 (at two cores' size): kill -9 of one of three nodes; events between the others go on, each once; no write is lost."""
    file = tmp_path / "apps.yaml"
    file.write_text(APPS, encoding="utf-8")
    env = environment(mongod, f"t{uuid4().hex[:12]}")
    start = ("--data", str(tmp_path), "--apply", str(file))
    async with serving(*start, env=env) as one, serving(*start, env=env) as two, serving(*start, env=env) as three:
        async with connect(one, "acme") as ada, connect(two, "acme") as bob, connect(three, "acme") as eve:
            acknowledged: list[int] = []
            going = True

            async def write() -> None:
                n = 0
                while going:
                    await ada.call("create", "notes", {"n": n}, {})
                    acknowledged.append(n)
                    n += 1

            writing = asyncio.create_task(write())
            await until(lambda: len(bob.events) > 20 and len(eve.events) > 20, 20)
            three.process.kill()
            began = time.monotonic()
            await eve.gone()
            async with connect(two, "acme") as eve_again:
                back = time.monotonic() - began
                first = len(acknowledged)
                await until(lambda: len(acknowledged) > first + 100, 20)
                going = False
                await writing
                last = acknowledged[-1]
                await until(lambda: bool(bob.events) and bob.events[-1].record["n"] == last, 10)
                await until(lambda: bool(eve_again.events) and eve_again.events[-1].record["n"] == last, 10)
                numbers = [event.record["n"] for event in bob.events]
                assert numbers == [*range(numbers[0], last + 1)], "in order, each once"
                again = [event.record["n"] for event in eve_again.events]
                assert again == [*range(again[0], last + 1)]
                assert await ada.call("find", "notes", {"$limit": 0}) == {
                    "total": len(acknowledged), "limit": 0, "skip": 0, "data": []
                }  # fmt: skip
        print(f"F5: {len(acknowledged)} writes, the killed node's client was back after {back:.2f} s")  # noqa: T201
        # The killed process has left its place in the list of nodes: nobody waits for it.
        began = time.monotonic()
        async with serving(*start, env=env) as four, connect(four, "acme") as late:
            await late.call("find", "notes", {})
        assert time.monotonic() - began < 30
