"""What the time of an answer tells (LIMITS A3, A6): statistics over many samples, so not in every run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Self

import pytest

from hooks.errors import NotAuthenticated
from server.main import Roost
from tests.conftest import StartRoost
from tests.integration.authentication.clients import Client
from tests.support.client import PASSWORD, connect, fresh, outcome
from tests.support.samples import alike, measure

pytestmark = [pytest.mark.timing, pytest.mark.timeout(600)]

SAMPLES = 300
TRIES = 3
"""Of a hundred fair comparisons one looks unfair at p = 0.01; one of a million does so three times."""


@pytest.fixture
async def roost(roosts: StartRoost) -> Roost:
    """A server that locks nobody out."""
    return await roosts(name_failures=1_000, address_failures=10_000)


async def test_a3_an_unknown_user_takes_as_long_as_a_wrong_password(roost: Roost) -> None:
    """A3: unknown user vs wrong password, 2 x 300 samples: Mann-Whitney p > 0.01 and |difference of medians| < 5 ms."""
    client = Client(roost, "acme")
    await client.sign_up("ada")

    def login(name: str) -> Callable[[], Awaitable[object]]:
        data = {"strategy": "local", "username": name, "password": "wrong horse"}

        async def fail() -> None:
            with pytest.raises(NotAuthenticated):
                await client.call("authentication", "create", data=data)

        return fail

    for _ in range(TRIES):
        seconds = await measure({"known": login("ada"), "unknown": login("eve")}, SAMPLES)
        is_alike, told = alike(seconds["known"], seconds["unknown"])
        print(f"A3: {told}")  # noqa: T201
        if is_alike:
            return
    pytest.fail(told)


class Lag:
    """How late the loop comes to a timer, in seconds, as long as the block lasts."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _watch(self) -> None:
        while True:
            due = time.perf_counter() + 0.001
            await asyncio.sleep(0.001)
            self.seconds.append(time.perf_counter() - due)


async def test_a6_the_loop_goes_on_while_fifty_logins_hash(roost: Roost) -> None:
    """A6: loop lag <= 20 ms while 50 logins hash."""
    client = Client(roost, "acme")
    await client.sign_up("ada")
    for _ in range(5):  # Others may keep the machine busy.
        async with Lag() as lag:
            answers = await asyncio.gather(
                *(Client(roost, "acme").log_in("ada") for _ in range(25)),
                *(Client(roost, "acme").log_in("ada", "wrong horse") for _ in range(25)),
                return_exceptions=True,
            )
        assert sum(isinstance(answer, dict) for answer in answers) == 25
        worst = max(lag.seconds)
        print(f"A6: {len(lag.seconds)} timers, latest by {worst * 1000:.1f} ms")  # noqa: T201
        if worst <= 0.020:
            break
    assert worst <= 0.020


async def test_a6_passwords_of_all_lengths_are_answered_in_a_fifth_of_a_second(roost: Roost) -> None:
    """A6: password 1 B ... 1 MB: <= 200 ms, for a login as for a sign-up."""
    async with connect(roost, "acme") as socket:
        await socket.call("create", "users", {"username": "ada", "password": PASSWORD})
        for size in (1, 8, 128, 129, 1_000, 100_000, 990_000):
            for path, more in (("authentication", {"strategy": "local"}), ("users", {})):
                best = 1.0
                for _ in range(3):
                    data = {**more, "username": "ada" if path == "authentication" else fresh("x")}
                    began = time.perf_counter()
                    await outcome(socket, "create", path, {**data, "password": "p" * size})
                    best = min(best, time.perf_counter() - began)
                print(f"A6: {path}, {size} characters: {best * 1000:.0f} ms")  # noqa: T201
                assert best <= 0.2, (path, size)
