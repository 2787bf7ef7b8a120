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


@pytest.mark.parametrize("has_arrived", [True, False])
async def test_what_gets_no_answer_is_sent_again_and_heard_once(
    monkeypatch: pytest.MonkeyPatch, *, has_arrived: bool
) -> None:
    """ADR 60: at most once, and in order; nor does the next event wait for ever behind it."""
    monkeypatch.setattr(module, "ANSWER", 0.3)
    heard: list[int] = []

    async def hear(envelope: Envelope) -> None:
        heard.append(envelope.record["n"])

    async def nothing(envelope: Envelope) -> None: ...

    with redis_server() as url:
        async with line(urlsplit(url).port or 0) as (way, address):
            here, there = RedisBus(url, database="t"), RedisBus(f"redis://{address}", database="t")
            await here.start(hear)
            await there.start(nothing)
            try:
                there.post(event(1))
                await until(lambda: heard == [1])
                if has_arrived:
                    way.mute()
                else:
                    way.cut()
                there.post(event(2))
                there.post(event(3))
                await until(lambda: 3 in heard)
                # Behind the answer of all that came before.
                there.post(event(4))
                await until(lambda: 4 in heard)
                assert heard == [1, 2, 3, 4]
            finally:
                await here.stop()
                await there.stop()
