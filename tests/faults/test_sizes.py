"""LIMITS F3, F5, F6 at full size: a database that is away for a minute, a killed process, and one that is told to go."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest

from tests.integration.server.command import Server, environment, serving
from tests.support.client import CallError, Client, connect, rest, until
from tests.support.mongod import ReplicaSet
from tests.support.raw_socket import PATH, RawSocket, event
from tests.support.roost import start_roost

pytestmark = [pytest.mark.faults, pytest.mark.load, pytest.mark.timeout(300)]

APPS = "tenants: [{id: acme, services: {notes: {paginate: false, rules: {default: public}}}}]\n"
SLOW = """
import asyncio

from hooks.internal import Internal
from services.base import Service


class Slow(Service):
    def __init__(self, app):
        self.app = app

    async def create(self, data, params):
        await asyncio.sleep(3)
        return await Internal(self.app, params).create("notes", {"n": data["n"]})


def configure(app):
    app.use("slow", Slow(app), methods=("create",), rules="public")
"""


@pytest.mark.parametrize("seconds", [60])
async def test_f3_a_minute_without_any_database(seconds: int) -> None:
    """F3: sockets stay, calls fail within 2.5 s, `/ready` is 503 within 3 s and 200 again within 5 s."""
    with ReplicaSet(3) as database:
        roost = await start_roost(database.uri)
        try:
            async with connect(roost, "acme") as ada, connect(roost, "globex") as eve, rest(roost, "acme") as client:
                await ada.call("create", "notes", {"n": 0}, {})
                for member in range(3):
                    await asyncio.to_thread(database.kill, member)
                died = time.monotonic()

                async def is_ready(expected: int) -> bool:
                    return (await client.request("GET", "/ready")).status == expected

                await until(lambda: is_ready(503), 10)
                noticed = time.monotonic() - died
                failures: Counter[int] = Counter()
                longest = 0.0
                while time.monotonic() - died < seconds:
                    for caller in (ada, eve):
                        for method, arguments in (("find", ({},)), ("create", ({"n": 1}, {}))):
                            began = time.monotonic()
                            with pytest.raises(CallError) as refused:
                                await caller.call(method, "notes", *arguments)
                            longest = max(longest, time.monotonic() - began)
                            failures[refused.value.code] += 1
                    await asyncio.sleep(0.5)
                assert ada.connected
                assert eve.connected
                for member in (0, 1):
                    await asyncio.to_thread(database._spawn, member)
                await database.restart(2)
                back = time.monotonic()
                await until(lambda: is_ready(200), 15)
                ready = time.monotonic() - back
                assert await ada.call("create", "notes", {"n": 2}, {})
                print(  # noqa: T201
                    f"F3: {failures.total()} calls failed, {longest:.2f} s at most; "
                    f"not ready after {noticed:.2f} s, ready again after {ready:.2f} s"
                )
                assert set(failures) == {503}
                assert longest <= 2.5
                assert noticed <= 3
                assert ready <= 5
        finally:
            await roost.drop()


class Listener:
    """A client that counts what it hears, and comes back after a pause of its own when its server is gone."""

    def __init__(self, places: list[Server]) -> None:
        self.places = places
        self.numbers: list[int] = []
        self.returned: float | None = None
        self.joined = asyncio.Event()

    async def run(self) -> None:
        """Listens at the first place, then at another one."""
        try:
            await self._listen(self.places[0])
        except Exception:
            await asyncio.sleep(random.uniform(0.5, 15))
        while True:
            try:
                await self._listen(random.choice(self.places[1:]), again=True)
            except Exception:
                await asyncio.sleep(random.uniform(0.5, 2))

    async def _listen(self, place: Server, *, again: bool = False) -> None:
        port = int(place.url.rpartition(":")[2])
        async with await RawSocket.open(port, f"{PATH}&appId=acme") as raw:
            await raw.receive(20)
            raw.send("40")
            assert (await raw.receive(20)).startswith("40{")
            self.joined.set()
            if again and self.returned is None:
                self.returned = time.monotonic()
            while True:
                packet = await raw.receive(60)
                if '"n":' in packet:
                    self.numbers.append(int(packet.partition('"n":')[2].split(",")[0].strip("}]")))


async def test_f5_a_killed_process_with_a_thousand_clients(mongod: str, tmp_path: Path) -> None:
    """F5: 99 % are back within 30 s on the other two nodes, and nobody hears anything twice."""
    count = 1000
    file = tmp_path / "apps.yaml"
    file.write_text(APPS, encoding="utf-8")
    env = environment(mongod, f"t{uuid4().hex[:12]}")
    start = ("--data", str(tmp_path), "--apply", str(file))
    async with serving(*start, env=env) as one, serving(*start, env=env) as two, serving(*start, env=env) as three:
        listeners = [Listener([three, one, two]) for _ in range(count)]
        tasks = []
        for at in range(0, count, 50):
            some = listeners[at : at + 50]
            tasks += [asyncio.create_task(listener.run()) for listener in some]
            async with asyncio.timeout(60):
                await asyncio.gather(*(listener.joined.wait() for listener in some))
        async with connect(one, "acme") as ada:
            await ada.call("create", "notes", {"n": 0}, {})
            await until(lambda: all(listener.numbers == [0] for listener in listeners), 30)
            three.process.kill()
            killed = time.monotonic()
            number = 1
            while time.monotonic() - killed < 30:
                await ada.call("create", "notes", {"n": number}, {})
                number += 1
                await asyncio.sleep(0.5)
            back = sorted(one.returned - killed for one in listeners if one.returned is not None)
            last = number
            await ada.call("create", "notes", {"n": last}, {})
            there = [listener for listener in listeners if listener.returned is not None]
            await until(lambda: all(listener.numbers[-1:] == [last] for listener in there), 30)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        print(f"F5: {len(back)} of {count} are back, the last one after {back[-1]:.1f} s")  # noqa: T201
        assert len(back) >= count * 0.99
        assert back[-1] <= 30
        for listener in there:
            heard = listener.numbers[1:]
            assert heard == [*range(heard[0], last + 1)], "in order, each once"


async def test_f6_told_to_go_with_five_hundred_calls_in_flight(mongod: str, tmp_path: Path) -> None:
    """F6: every call is acknowledged and what it wrote is there; the process is gone within 15 s."""
    count = 500
    (tmp_path / "apps.yaml").write_text(APPS, encoding="utf-8")
    (tmp_path / "slow.py").write_text(SLOW, encoding="utf-8")
    env = environment(mongod, f"t{uuid4().hex[:12]}", ROOST_MODULES="slow", PYTHONPATH=str(tmp_path))
    start = ("--data", str(tmp_path), "--apply", str(tmp_path / "apps.yaml"))
    async with serving(*start, env=env) as server:
        port = int(server.url.rpartition(":")[2])
        sockets = [await RawSocket.join(port, path=f"{PATH}&appId=acme") for _ in range(100)]
        for n in range(count):
            sockets[n % 100].send(event("create", "slow", {"n": n}, {}, ack=n))

        async def answers(raw: RawSocket, wanted: int) -> list[str]:
            found: list[str] = []
            while len(found) < wanted:
                packet = await raw.receive(20)
                if packet.startswith("43"):
                    found.append(packet)
            return found

        listening = [asyncio.create_task(answers(raw, count // 100)) for raw in sockets]
        # An answer to a later call: all that was sent before has been taken up.
        async with aiohttp.ClientSession() as session, session.get(f"{server.url}/health") as healthy:
            assert healthy.status == 200
        await asyncio.sleep(1)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        acks = [ack for found in await asyncio.gather(*listening, return_exceptions=True) for ack in _whole(found)]
        assert await asyncio.wait_for(server.process.wait(), 30) == 0
        took = time.monotonic() - began
        for raw in sockets:
            await raw.abort()
    good = [ack for ack in acks if "[null," in ack]
    async with serving(*start, env=env) as again, connect(again, "acme") as ada:
        kept = await _numbers(ada)
    print(f"F6: {len(acks)} of {count} acknowledged, {len(good)} well, {len(kept)} kept; gone after {took:.1f} s")  # noqa: T201
    assert len(good) == count
    assert kept == [*range(count)]
    assert took <= 15


def _whole(found: list[str] | BaseException) -> list[str]:
    return [] if isinstance(found, BaseException) else found


async def _numbers(client: Client) -> list[int]:
    return sorted(note["n"] for note in await client.call("find", "notes", {"$select": ["n"]}))
