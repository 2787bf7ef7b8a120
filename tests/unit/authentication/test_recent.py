"""What was read a moment ago: believed for some seconds, never beyond its end, and bounded."""

from __future__ import annotations

from services.authentication.recent import FRESH, Recent


class Clock:
    """A clock that stands still until it is set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_value_is_believed_for_a_few_seconds() -> None:
    clock = Clock()
    recent: Recent[str, int] = Recent(clock)
    assert recent.get("a") is None
    recent.put("a", 1)
    clock.now += FRESH - 0.001
    assert recent.get("a") == 1
    clock.now += 0.001
    assert recent.get("a") is None
    assert FRESH <= 5.0, "what other servers change is seen within five seconds"


def test_a_clock_that_was_set_back_makes_nothing_last() -> None:
    clock = Clock()
    recent: Recent[str, int] = Recent(clock)
    recent.put("a", 1)
    clock.now -= 1000
    assert recent.get("a") is None


def test_what_was_struck_out_is_known_to_be_gone() -> None:
    recent: Recent[str, int] = Recent(Clock())
    recent.put("a", 1)
    recent.strike("a")
    assert recent.get("a") is None
    recent.put("a", 1)
    assert recent.is_struck("a"), "a reading that began earlier does not bring it back"
    assert not recent.is_struck("b")
    recent.put("b", 2)
    recent.drop("b")
    assert recent.get("b") is None
    assert not recent.is_struck("b")


def test_neither_values_nor_ends_are_kept_without_bound() -> None:
    recent: Recent[int, int] = Recent(Clock(), most=3)
    for number in range(10):
        recent.put(number, number)
        recent.strike(-number)
    assert [number for number in range(10) if recent.get(number) is not None] == [7, 8, 9]
    assert [number for number in range(10) if recent.is_struck(-number)] == [7, 8, 9]
