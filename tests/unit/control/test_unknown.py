"""How often one address may ask for what is unknown (TENANCY.md CA-3, LIMITS.md C8)."""

from __future__ import annotations

import pytest

from hooks.errors import TooManyRequests
from services.control.unknown import UnknownLookups


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def attempt(lookups: UnknownLookups, address: str) -> bool:
    try:
        lookups.check(address)
    except TooManyRequests:
        return False
    lookups.spend(address)
    return True


def test_an_address_has_some_in_one_go_and_then_one_a_second(clock: Clock) -> None:
    """CA-3, C8."""
    lookups = UnknownLookups(clock=clock)
    assert sum(attempt(lookups, "192.0.2.1") for _ in range(10_000)) == 10
    assert attempt(lookups, "192.0.2.2")
    with pytest.raises(TooManyRequests) as refused:
        lookups.check("192.0.2.1")
    assert refused.value.data == {"retry_after": 1}
    clock.now = 3.0
    assert sum(attempt(lookups, "192.0.2.1") for _ in range(10_000)) == 3
    clock.now = 1_000.0
    assert sum(attempt(lookups, "192.0.2.1") for _ in range(10_000)) == 10


def test_addresses_of_one_network_count_as_one(clock: Clock) -> None:
    """CA-3: whoever has an IPv6 network has more addresses than anybody can count."""
    lookups = UnknownLookups(clock=clock)
    assert sum(attempt(lookups, f"2001:db8::{number:x}") for number in range(100)) == 10
    assert attempt(lookups, "2001:db8:1::1")


def test_only_so_many_addresses_are_remembered(clock: Clock) -> None:
    """CA-3: random addresses cannot fill the memory."""
    lookups = UnknownLookups(clock=clock, most=100)
    for number in range(1_000):
        lookups.spend(f"10.0.{number // 256}.{number % 256}")
    assert len(lookups) == 100
