"""What was read a moment ago: believed for some seconds, never beyond its end, and bounded."""

from __future__ import annotations

from services.authentication.recent import FRESH, RecentByTenant


class Clock:
    """A clock that stands still until it is set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_value_is_believed_for_a_few_seconds() -> None:
    clock = Clock()
    recent: RecentByTenant[int] = RecentByTenant(clock)
    assert recent.get(("acme", "a")) is None
    recent.put(("acme", "a"), 1)
    clock.now += FRESH - 0.001
    assert recent.get(("acme", "a")) == 1
    clock.now += 0.001
    assert recent.get(("acme", "a")) is None
    assert FRESH <= 5.0, "what other servers change is seen within five seconds"


def test_a_clock_that_was_set_back_makes_nothing_last() -> None:
    clock = Clock()
    recent: RecentByTenant[int] = RecentByTenant(clock)
    recent.put(("acme", "a"), 1)
    clock.now -= 1000
    assert recent.get(("acme", "a")) is None


def test_what_was_struck_out_is_known_to_be_gone() -> None:
    recent: RecentByTenant[int] = RecentByTenant(Clock())
    recent.put(("acme", "a"), 1)
    recent.strike(("acme", "a"))
    assert recent.get(("acme", "a")) is None
    recent.put(("acme", "a"), 1)
    assert recent.is_struck(("acme", "a")), "a reading that began earlier does not bring it back"
    assert not recent.is_struck(("acme", "b"))
    recent.put(("acme", "b"), 2)
    recent.drop(("acme", "b"))
    assert recent.get(("acme", "b")) is None
    assert not recent.is_struck(("acme", "b"))


def test_neither_values_nor_ends_are_kept_without_bound() -> None:
    """CK-2: the bound is the tenant's own, and others lose nothing to it."""
    recent: RecentByTenant[int] = RecentByTenant(Clock(), most=3)
    recent.put(("globex", "0"), 0)
    recent.strike(("globex", "-0"))
    for number in range(10):
        recent.put(("acme", f"{number}"), number)
        recent.strike(("acme", f"-{number}"))
    assert [value for _, value in recent.of("acme")] == [7, 8, 9]
    assert [number for number in range(10) if recent.is_struck(("acme", f"-{number}"))] == [7, 8, 9]
    assert recent.get(("globex", "0")) == 0
    assert recent.is_struck(("globex", "-0"))
