"""PO-4: the arithmetic, by the examples of the formula's description."""

from __future__ import annotations

import pytest

from services.placement.pools import Pool, Room, bound


@pytest.mark.parametrize(
    ("processes", "pools", "expected"),
    [
        (8, [Pool(100, servers=3)], 2_448),
        (8, [Pool(10, servers=3)] * 200, 57_600),
        (1, [], 0),
        (4, [Pool(50), Pool(5, servers=3)], 4 * (52 + 21)),
    ],
)
def test_the_bound(processes: int, pools: list[Pool], expected: int) -> None:
    assert bound(processes, pools) == expected


@pytest.mark.parametrize(
    ("available", "is_too_small", "is_tight"),
    [(None, False, False), (1000, False, False), (200, False, True), (51, True, True)],
)
def test_what_is_too_much(available: int | None, is_too_small: bool, is_tight: bool) -> None:
    room = Room("far", own=52, all=208, available=available)
    assert (room.is_too_small, room.is_tight) == (is_too_small, is_tight)
