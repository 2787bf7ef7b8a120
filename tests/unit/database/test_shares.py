"""LIMITS N1: how the limit of a tenant's searches follows the time that they take."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooks.tenant import Tenant, tenant_scope
from services.database.shares import SLOW_SECONDS, Claim, Shares, claim

SEARCH, CHANGE = Claim("acme", searches=True), Claim("acme", searches=False)
QUICK, SLOW = SLOW_SECONDS / 2, SLOW_SECONDS * 4


class Clock:
    """The time of a loop that stands still until it is told."""

    now = 100.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """What the shares take for the running loop."""
    clock = Clock()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: clock)
    return clock


def one(of: Shares, clock: Clock, took: float, what: Claim = SEARCH) -> None:
    """A command that begins now and takes so long."""
    of.take(what)
    clock.now += took
    of.give_back(what, took)


@pytest.mark.parametrize(
    ("size", "processors", "most", "least"),
    [(50, 2, 12, 1), (50, 16, 12, 4), (50, 64, 12, 12), (50, None, 12, 2), (1, 2, 1, 1), (4, None, 1, 1)],
)
def test_how_many(clock: Clock, size: int, processors: int | None, most: int, least: int) -> None:
    """PO-3: a quarter of the connections; of slow searches a quarter of the processors."""
    shares = Shares(size, processors=processors)
    assert (shares.most, shares.least) == (most, least)
    assert shares.room(SEARCH) == min(most, 2 * least)
    assert shares.room(CHANGE) == most


def test_quick_searches_raise_the_limit_and_slow_ones_halve_it(clock: Clock) -> None:
    """Up to the share, and down to the least; other tenants have theirs."""
    shares = Shares(50, processors=2)
    for _ in range(1000):
        one(shares, clock, QUICK)
    assert shares.room(SEARCH) == 12
    for limit in (6, 3, 1, 1):
        one(shares, clock, SLOW)
        assert shares.room(SEARCH) == limit
    assert shares.room(Claim("other", searches=True)) == 2
    assert shares.room(CHANGE) == 12


def test_searches_that_were_under_way_together_halve_it_once(clock: Clock) -> None:
    """They all saw the same: only what begins after the limit fell says whether it fell far enough."""
    shares = Shares(50, processors=2)
    for _ in range(1000):
        one(shares, clock, QUICK)
    for _ in range(12):
        shares.take(SEARCH)
    clock.now += SLOW
    for _ in range(12):
        shares.give_back(SEARCH, SLOW)
        clock.now += 0.001
    assert shares.room(SEARCH) == 6


def test_a_few_quick_ones_do_not_hide_the_slow_ones(clock: Clock) -> None:
    """Ten quick searches for each slow one: the limit is raised by their time, not by their number."""
    shares = Shares(50, processors=2)
    for _ in range(100):
        one(shares, clock, SLOW)
        for _ in range(10):
            one(shares, clock, 0.001)
    assert shares.room(SEARCH) == 1


def test_the_way_to_the_server_does_not_count(clock: Clock) -> None:
    """A database far away is no slow one."""
    shares = Shares(50, processors=2)
    shares.round_trip = 0.2
    for _ in range(100):
        one(shares, clock, 0.2 + QUICK)
    assert shares.room(SEARCH) == 12


def test_what_is_not_known_changes_nothing(clock: Clock) -> None:
    """A connection that was lost, and changes of records, which wait for disks."""
    shares = Shares(50, processors=2)
    shares.take(SEARCH)
    shares.give_back(SEARCH, None)
    one(shares, clock, 5.0, CHANGE)
    assert (shares.room(SEARCH), shares.room(CHANGE)) == (2, 12)


def test_who_asks_for_nothing_is_forgotten(clock: Clock) -> None:
    """And not while a command of his is under way."""
    shares = Shares(50, processors=2)
    one(shares, clock, SLOW)
    clock.now += 60
    shares.take(SEARCH)
    shares.sweep()
    assert shares.room(SEARCH) == 0
    shares.give_back(SEARCH, None)
    clock.now += 60
    shares.sweep()
    assert shares.room(SEARCH) == 2


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.floats(0, 3) | st.none())))
def test_the_bounds_hold_whatever_happens(steps: list[tuple[bool, bool, float | None]]) -> None:
    """PO-3, as a property: never more than the share, never less than one search, and all of it free at the end."""
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock()
        patch.setattr(asyncio, "get_running_loop", lambda: clock)
        counted = Shares(50, processors=8)
        held: list[Claim] = []
        for takes, searches, took in steps:
            what = Claim("acme", searches)
            clock.now += took or 0
            if takes and counted.room(what) > 0:
                counted.take(what)
                held.append(what)
            elif what in held:
                held.remove(what)
                counted.give_back(what, took)
            assert len(held) <= counted.most
        for what in held:
            counted.give_back(what, None)
        assert counted.least <= counted.room(SEARCH) <= counted.most
        assert counted.room(CHANGE) == counted.most


def test_whose_claim() -> None:
    """That of the tenant in whose scope it is made; the server itself has none."""
    assert claim(searches=True) is None
    with tenant_scope(Tenant("acme", "Acme")):
        assert claim(searches=True) == SEARCH
        assert claim(searches=False) == CHANGE
