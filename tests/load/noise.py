"""A tenant that makes noise, as a process of its own: `python -m tests.load.noise URL APP KIND SECONDS` tells its answers.

Its clients would be on other machines: here the process gets what everybody else leaves of the processors. They come
independently of each other, so that each pauses for another time, and come again when they are closed.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import socketio.exceptions

from tests.support.client import CallError, Client, connect, outcome

SOCKETS = 8
OWN_PRIORITY = {"processor", "bursts"}
"""Kinds that are to take time from the server."""
UNANSWERED = (TimeoutError, socketio.exceptions.SocketIOError, OSError)
SLOW = {"$or": [{"text": {"$ne": f"x{number}"}, "n": {"$gt": 10**6 + number}} for number in range(15)]}
"""A query for which every record has to be looked at, fifteen times, and nothing is found."""


@dataclass
class Noise:
    """Who makes it: the server and the app, and until when."""

    url: str
    app: str
    until: float
    answers: Counter[str] = field(default_factory=Counter)

    async def repeat(self, act: Callable[[], Awaitable[Any]], pause: float) -> None:
        """Does the same again and again."""
        while time.monotonic() < self.until:
            try:
                self.count(await act())
            except UNANSWERED as error:
                self.count(error)
            await asyncio.sleep(pause * random.uniform(0, 2))

    def count(self, answer: Any) -> None:
        """Counts an answer, or what came in place of one."""
        code = str(answer.code) if isinstance(answer, CallError) else type(answer).__name__
        self.answers[code if isinstance(answer, Exception) else "fine"] += 1

    async def over_sockets(self, act: Callable[[Client], Awaitable[Any]], at_once: int, pause: float) -> None:
        """Does something on each of some sockets, so many times at once."""

        async def socket() -> None:
            async with connect(self, self.app) as client:
                calls = asyncio.gather(*(self.repeat(partial(act, client), pause) for _ in range(at_once)))
                closed = asyncio.ensure_future(client.gone(self.until - time.monotonic()))
                await asyncio.wait((calls, closed), return_when=asyncio.FIRST_COMPLETED)
                self.answers["closed"] += not client.connected
                calls.cancel()
                closed.cancel()
                await asyncio.gather(calls, closed, return_exceptions=True)

        await asyncio.gather(*(self.repeat(socket, 0.1) for _ in range(SOCKETS)))

    async def calls(self) -> None:
        """About 500 calls a second, of which the limit admits 50."""
        await self.over_sockets(lambda client: outcome(client, "find", "notes", {"$limit": 1}), 4, 0.064)

    async def events(self) -> None:
        """About 500 writes a second that all of the app's sockets hear of, of which the limit admits 50."""
        await self.over_sockets(lambda client: outcome(client, "create", "loud", {"text": "x"}), 2, 0.03)

    async def logins(self) -> None:
        """About 40 logins a second by wrong passwords, of which the limit admits four."""
        data = {"strategy": "local", "username": "somebody", "password": "wrong-one"}
        await self.over_sockets(lambda client: outcome(client, "create", "authentication", data), 2, 0.4)

    async def slow(self) -> None:
        """About ten queries a second that look at everything, of which the limit admits about one."""
        await self.over_sockets(lambda client: outcome(client, "find", "heap", SLOW), 1, 0.8)

    async def slower(self) -> None:
        """About 50 of them, of which the limit admits about five."""
        await self.over_sockets(lambda client: outcome(client, "find", "heap", SLOW), 4, 0.64)

    async def unlimited(self) -> None:
        """Queries that look at everything, 256 at once."""
        await self.over_sockets(lambda client: outcome(client, "find", "heap", SLOW), 32, 0.0)

    async def processor(self) -> None:
        """Nothing that the server hears of: one of the machine's processors is busy."""
        while time.monotonic() < self.until:
            pass

    async def bursts(self) -> None:
        """Nothing that the server hears of: a process of low priority works for 25 ms, four times a second."""
        os.nice(10)
        while time.monotonic() < self.until:
            began = time.monotonic()
            while time.monotonic() < began + 0.025:
                pass
            await asyncio.sleep(max(0.0, began + 0.25 - time.monotonic()))

    async def connections(self) -> None:
        """Fifty connections at once, of which the limit admits five."""

        async def come() -> None:
            async with connect(self, self.app):
                await asyncio.sleep(0.2)

        await asyncio.gather(*(self.repeat(come, 0.05) for _ in range(50)))


async def main(url: str, app: str, kind: str, seconds: str) -> None:
    """Makes noise of a kind for a while."""
    if kind not in OWN_PRIORITY:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    noise = Noise(url, app, time.monotonic() + float(seconds))
    await getattr(noise, kind)()
    sys.stdout.write(json.dumps(noise.answers))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
