"""A connection to Redis that leads nowhere, without anybody saying so: a host that is gone, a firewall that forgets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from services.bus import redis as module
from services.bus.envelope import Envelope
from services.bus.redis import RedisBus
from tests.support.client import until
from tests.support.redis import redis_server


class Line:
    """A way to Redis. When it is cut, the connections that are there stay open and carry nothing; new ones work."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._ways: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []
        self.made = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.made += 1
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, up_writer]
        self._ways += [asyncio.create_task(_carry(reader, up_writer)), asyncio.create_task(_carry(up_reader, writer))]

    def cut(self) -> None:
        for way in self._ways:
            way.cancel()

    def close(self) -> None:
        self.cut()
        for writer in self._writers:
            writer.close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def line(port: int) -> AsyncIterator[tuple[Line, str]]:
    """A line, and its address."""
    made = Line(port)
    async with await asyncio.start_server(made.serve, "127.0.0.1", 0) as server:
        yield made, f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        made.close()


def event(n: int) -> Envelope:
    return Envelope(app_id="acme", path="notes", event="created", record={"n": n}, context={})


async def test_a_silent_connection_is_left_for_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT", 0.2)
    heard: list[int] = []

    async def hear(envelope: Envelope) -> None:
        heard.append(envelope.record["n"])

    with redis_server() as url:
        async with line(urlsplit(url).port or 0) as (way, address):
            here, there = RedisBus(url, database="t"), RedisBus(address, database="t")
            await here.start(hear)
            await there.start(hear)
            try:
                here.post(event(1))
                await until(lambda: heard == [1])
                made = way.made
                # Silence alone is no reason: pings are answered.
                await asyncio.sleep(1.0)
                assert (way.made, there.missed) == (made, 0)
                way.cut()
                await until(lambda: there.missed >= 1)

                def is_heard() -> bool:
                    here.post(event(2))
                    return 2 in heard

                await until(is_heard, 10)
            finally:
                await here.stop()
                await there.stop()
