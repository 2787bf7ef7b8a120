"""LIMITS.md A5: what is counted, for how long, and who has to wait."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from hooks.errors import NotAuthenticated, TooManyRequests
from hooks.limit import Attempt
from services.authentication.attempts import LONGEST_WAIT, PER_ADDRESS, PER_NAME, WINDOW, Attempts, network

HERE, THERE = "203.0.113.7", "198.51.100.9"


@dataclass
class World:
    """Attempts on names of the tenant `acme`, and a clock that stands still."""

    now: float = 1000.0
    attempts: Attempts = field(init=False)

    def __post_init__(self) -> None:
        self.attempts = Attempts(clock=lambda: self.now)

    async def fail(self, name: str | None = "ada", address: str = HERE, tenant: str = "acme") -> str:
        """One attempt with a wrong password: whether it was `tried`, `locked`, or has to `wait`."""
        return await self.attempt(name, address, tenant, failed=True)

    async def attempt(
        self, name: str | None, address: str, tenant: str = "acme", *, failed: bool | None, hidden: bool = True
    ) -> str:
        try:
            turn = await self.attempts.begin(tenant, address, login(name, hidden=hidden))
        except TooManyRequests as error:
            self.retry_after: int = error.data["retry_after"]
            return "wait"
        turn.end(turn.is_locked or failed)
        return "locked" if turn.is_locked else "tried"


def login(name: str | None, *, hidden: bool = True) -> Attempt:
    return Attempt("login", name, (NotAuthenticated,), is_hidden=hidden)


async def test_a5_ten_failures_lock_the_name_for_the_address_that_failed() -> None:
    world = World()
    assert [await world.fail() for _ in range(PER_NAME + 2)] == ["tried"] * PER_NAME + ["locked"] * 2
    assert await world.fail("bob") == "tried"
    assert await world.fail(tenant="globex") == "tried"


async def test_a5_another_address_gets_in_at_once_and_waits_longer_after_each_failure() -> None:
    world = World()
    for _ in range(PER_NAME):
        await world.fail()
    assert await world.fail(address=THERE) == "tried"
    waits = []
    for n in range(8):
        assert await world.fail(address=f"192.0.2.{n}") == "wait"
        waits.append(world.retry_after)
        assert await world.fail() in ("locked", "wait"), "the attacker does not get in by the others' waiting"
        world.now += world.retry_after
        assert await world.fail(address=f"192.0.2.{n}") == "tried"
    assert waits == [1, 2, 4, 8, 16, 32, *[LONGEST_WAIT["name"]] * 2]


async def test_a5_a_thousand_addresses_do_not_get_more_than_the_waiting_allows() -> None:
    world = World()
    tried = 0
    for n in range(1000):
        tried += await world.fail(address=f"10.0.{n // 250}.{n % 250}") == "tried"
        world.now += 0.5
    # Ten, then after 1, 2, 4, ... and at last 60 s each: 500 s have passed.
    assert tried <= PER_NAME + 6 + 500 / LONGEST_WAIT["name"] + 1


async def test_a_success_forgives_the_address_that_had_it_alone() -> None:
    world = World()
    for _ in range(PER_NAME - 1):
        await world.fail()
    await world.attempt("ada", THERE, failed=False)
    assert [await world.fail() for _ in range(2)] == ["tried", "locked"]

    await world.attempt("eve", HERE, failed=False)
    for _ in range(3 * PER_NAME):
        await world.attempt("bob", THERE, failed=True)
        assert await world.attempt("bob", THERE, failed=False) == "tried"


async def test_failures_count_for_a_quarter_of_an_hour_each() -> None:
    world = World()
    for _ in range(PER_NAME):
        await world.fail()
        world.now += 10
    assert await world.fail() == "locked"
    world.now += WINDOW - PER_NAME * 10 - 0.5
    assert await world.fail() == "locked"
    world.now += 1
    assert [await world.fail() for _ in range(2)] == ["tried", "locked"], "only the oldest counts no more"


async def test_a5_a_hundred_failures_make_an_address_wait_whatever_it_tries() -> None:
    world = World()
    for n in range(PER_ADDRESS):
        assert await world.fail(f"name-{n}") == "tried"
    assert await world.fail("other") == "tried"
    assert await world.fail("other") == "wait"
    assert await world.fail(None) == "wait"
    assert await world.fail("other", THERE) == "tried"
    assert await world.fail("other", tenant="globex") == "tried"
    waits = []
    for _ in range(12):
        world.now += world.retry_after
        assert await world.fail("other") == "tried" or world.retry_after
        await world.fail("another")
        waits.append(world.retry_after)
    assert waits == sorted(waits)
    assert max(waits) <= LONGEST_WAIT["address"]


async def test_a_success_elsewhere_does_not_forgive_an_address() -> None:
    world = World()
    for n in range(PER_ADDRESS):
        await world.fail(f"name-{n}")
        await world.attempt("mine", HERE, failed=False)
    await world.fail("other")
    assert await world.attempt("mine", HERE, failed=False) == "wait"


async def test_locked_attempts_count_for_the_address() -> None:
    world = World()
    outcomes = [await world.fail() for _ in range(PER_ADDRESS + 2)]
    assert outcomes[PER_NAME] == "locked"
    assert outcomes[-1] == "wait"


async def test_what_proves_nothing_counts_nothing() -> None:
    world = World()
    for _ in range(3 * PER_NAME):
        assert await world.attempt("ada", HERE, failed=None) == "tried"


async def test_where_nothing_has_to_be_hidden_a_locked_name_says_when_to_come_again() -> None:
    world = World()
    for _ in range(PER_NAME):
        await world.attempt("ada", HERE, failed=True, hidden=False)
    world.now += 100
    assert await world.attempt("ada", HERE, failed=True, hidden=False) == "wait"
    assert world.retry_after == WINDOW - 100


async def test_many_at_once_are_no_more_than_one_after_another() -> None:
    world = World()
    running = 0
    most = 0
    tried = 0

    async def fail() -> None:
        nonlocal running, most, tried
        turn = await world.attempts.begin("acme", HERE, login("ada"))
        running += not turn.is_locked
        tried += not turn.is_locked
        most = max(most, running)
        await asyncio.sleep(0)
        running -= not turn.is_locked
        turn.end(True)

    await asyncio.gather(*(fail() for _ in range(50)))
    assert (most, tried) == (PER_NAME, PER_NAME)


async def test_the_right_password_fifty_times_at_once_is_never_refused() -> None:
    world = World()

    async def succeed() -> bool:
        turn = await world.attempts.begin("acme", HERE, login("ada"))
        await asyncio.sleep(0)
        turn.end(False)
        return turn.is_locked

    assert not any(await asyncio.gather(*(succeed() for _ in range(50))))


async def test_memory_is_bounded_and_the_oldest_go_first() -> None:
    attempts = Attempts(most=50)
    for n in range(500):
        (await attempts.begin("acme", f"10.0.{n // 250}.{n % 250}", login(f"name-{n}"))).end(True)
    assert len(attempts) == 100


async def test_what_is_refused_or_succeeds_pushes_nobody_out() -> None:
    """A5: a lock is not lifted by a flood of attempts that cost nothing."""
    world = World()
    world.attempts = Attempts(most=PER_ADDRESS + 10, clock=lambda: world.now)
    for _ in range(PER_NAME):
        await world.fail("victim", THERE)
    for n in range(PER_ADDRESS + 1):
        await world.fail(f"name-{n % 30}")
    kept = len(world.attempts)
    for n in range(3 * PER_ADDRESS):
        assert await world.fail(f"other-{n}") == "wait"
        await world.attempt(f"mine-{n}", f"10.1.{n // 250}.{n % 250}", failed=False)
    await world.fail("victim", "192.0.2.1")
    for n in range(3 * PER_ADDRESS):
        assert await world.fail("victim", f"10.2.{n // 250}.{n % 250}") == "wait"
    assert len(world.attempts) == kept + 1
    assert await world.fail("victim", THERE) == "locked"


async def test_what_runs_is_not_pushed_out() -> None:
    """A5: the attempts of one name that run at once are counted together, however many others come."""
    attempts = Attempts(most=5)
    turns = [await attempts.begin("acme", HERE, login("ada")) for _ in range(PER_NAME)]
    for n in range(50):
        (await attempts.begin("acme", f"10.0.0.{n}", login(f"name-{n}"))).end(True)
    for turn in turns:
        turn.end(True)
    assert (await attempts.begin("acme", HERE, login("ada"))).is_locked
    assert len(attempts) <= 10


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::9", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("", ""),
        ("nowhere", "nowhere"),
    ],
)
def test_one_household_is_one_address(address: str, expected: str) -> None:
    assert network(address) == expected
