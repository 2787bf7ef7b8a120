"""Passwords: what is accepted, what is verified, and that nobody waits for others without bound."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from hooks.errors import BadRequest, TooManyRequests
from services.authentication.passwords import LONGEST, Passwords

pytestmark = pytest.mark.passwords

GOOD = "correct horse"


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    made = Passwords(memory_kib=64, rounds=1)
    yield made
    made.close()


def test_the_library_is_imported_without_a_warning() -> None:
    command = [sys.executable, "-W", "error", "-c", "import services.authentication.passwords"]
    subprocess.run(command, check=True, timeout=60)


async def test_the_cost_is_owasps_and_the_kind_is_argon2id() -> None:
    passwords = Passwords()
    hashed = await passwords.hash(GOOD)
    assert hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await passwords.verify(GOOD, hashed)
    passwords.close()


async def test_a_password_matches_its_own_hash_alone(passwords: Passwords) -> None:
    hashed = await passwords.hash(GOOD)
    assert await passwords.hash(GOOD) != hashed
    assert await passwords.verify(GOOD, hashed)
    assert not await passwords.verify(GOOD + " ", hashed)
    assert not await passwords.verify("", hashed)
    await passwords.verify_nothing(GOOD)


async def test_all_of_a_long_password_counts(passwords: Passwords) -> None:
    hashed = await passwords.hash("a" * 127 + "b")
    assert await passwords.verify("a" * 127 + "b", hashed)
    assert not await passwords.verify("a" * 127 + "c", hashed)


@pytest.mark.parametrize(
    "password",
    [
        None,
        12345678,
        True,
        ["a" * 8],
        {"$ne": ""},
        "a" * 7,
        "a" * 129,
        "a" * 1_000_000,
        "nul\0inside",
        "half \ud800 pair",
    ],
)
async def test_what_cannot_be_a_password_is_refused_with_a_sentence(passwords: Passwords, password: object) -> None:
    with pytest.raises(BadRequest, match=r"^The password (must|contains) .+") as caught:
        await passwords.hash(password)
    assert str(password) not in caught.value.message


@pytest.mark.parametrize("password", ["a" * 8, "a" * 128, "ünïcödé", "🔑🔑🔑🔑🔑🔑🔑🔑"])
async def test_any_text_of_8_to_128_characters_is_a_password(passwords: Passwords, password: str) -> None:
    if len(password) >= 8:
        assert await passwords.verify(password, await passwords.hash(password))


@pytest.mark.parametrize("password", ["a" * 129, "a" * 1_000_000, "nul\0inside", "half \ud800 pair", ""])
async def test_an_impossible_password_is_simply_wrong(passwords: Passwords, password: str) -> None:
    assert not await passwords.verify(password, await passwords.hash(GOOD))
    await passwords.verify_nothing(password)


@pytest.mark.parametrize("hashed", ["", "plain", "$argon2id$", "$argon2id$v=19$m=64,t=1,p=1$x", "$2b$10$abc"])
async def test_a_broken_hash_matches_nothing(passwords: Passwords, hashed: str) -> None:
    assert not await passwords.verify(GOOD, hashed)
    assert not await passwords.verify("", hashed)


class Held(Passwords):
    """Each hash waits in its thread until it is let go; counts what has been computed."""

    def __init__(self, *, workers: int, most_waiting: int) -> None:
        super().__init__(memory_kib=64, rounds=1, workers=workers, most_waiting=most_waiting)
        self.go = threading.Event()
        self.computed: list[str] = []

    def _matches(self, password: str, hashed: str) -> bool:
        self.go.wait(10)
        self.computed.append(password)
        return super()._matches(password, hashed)


async def test_the_loop_goes_on_and_only_so_many_wait() -> None:
    passwords = Held(workers=1, most_waiting=2)
    waiting = [asyncio.create_task(passwords.verify_nothing(GOOD)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyRequests) as caught:
        await passwords.verify_nothing(GOOD)
    assert caught.value.code == 429, "429 leaves the token of an official client alone"
    passwords.go.set()
    await asyncio.gather(*waiting)
    await passwords.verify_nothing(GOOD)
    passwords.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only there a priority is a thread's own")
async def test_hashing_leaves_the_processor_to_the_loop() -> None:
    class Telling(Passwords):
        def _matches(self, password: str, hashed: str) -> bool:
            self.priority = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
            return False

    passwords = Telling(memory_kib=64, rounds=1)
    await passwords.verify_nothing(GOOD)
    passwords.close()
    assert passwords.priority > os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


async def test_who_gives_up_waiting_makes_room() -> None:
    passwords = Held(workers=1, most_waiting=1)
    waiting = [asyncio.create_task(passwords.verify_nothing(GOOD)) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    await asyncio.wait([waiting[1]])
    third = asyncio.create_task(passwords.verify_nothing(GOOD))
    await asyncio.sleep(0)
    passwords.go.set()
    await asyncio.gather(waiting[0], third)
    passwords.close()


@pytest.mark.parametrize("password", [GOOD, "a" * 1_000_000, "nul\0"])
async def test_every_verification_costs_one_computation(password: str) -> None:
    passwords = Held(workers=1, most_waiting=1)
    passwords.go.set()
    hashed = await passwords.hash(GOOD)
    await passwords.verify(password, hashed)
    await passwords.verify(password, "broken")
    await passwords.verify_nothing(password)
    assert len(passwords.computed) == 3
    assert max(map(len, passwords.computed)) <= LONGEST
    passwords.close()
