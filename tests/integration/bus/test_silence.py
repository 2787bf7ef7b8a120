"""A connection to Redis that leads nowhere, without anybody saying so: a host that is gone, a firewall that forgets."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest

from services.bus import redis as module
from services.bus.envelope import Envelope
from services.bus.redis import RedisBus
from tests.support.client import until
from tests.support.line import line
from tests.support.redis import redis_server


def event(n: int) -> Envelope:
    return Envelope(app_id="acme", path="notes", event="created", record={"n": n}, context={})


async def test_a_silent_connection_is_left_for_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT", 0.2)
    heard: list[int] = []

    async def hear(envelope: Envelope) -> None:
        heard.append(envelope.record["n"])

    with redis_server() as url:
        async with line(urlsplit(url).port or 0) as (way, address):
            here, there = RedisBus(url, database="t"), RedisBus(f"redis://{address}", database="t")
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
