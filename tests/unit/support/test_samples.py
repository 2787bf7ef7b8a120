"""The statistics by which times are compared: a wrong one would let everything pass."""

from __future__ import annotations

import random

import pytest

from tests.support.samples import alike, mann_whitney, percentile


def test_known_values() -> None:
    # By the textbook: the normal approximation with corrections for ties and continuity.
    assert mann_whitney([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]) == pytest.approx(0.01218578, abs=1e-7)
    assert mann_whitney([1, 1, 2, 2], [1, 2, 2, 3]) == pytest.approx(0.4283, abs=1e-3)


def test_a_shift_of_half_the_noise_is_found_in_three_hundred_samples() -> None:
    noise = random.Random(1)
    one = [noise.gauss(20, 3) for _ in range(300)]
    assert mann_whitney(one, [noise.gauss(20, 3) for _ in range(300)]) > 0.01
    assert mann_whitney(one, [noise.gauss(21.5, 3) for _ in range(300)]) < 0.01
    assert mann_whitney([1.0] * 30, [1.0] * 30) == 1.0


def test_what_is_alike() -> None:
    noise = random.Random(2)
    one, other = ([noise.gauss(0.02, 0.002) for _ in range(300)] for _ in range(2))
    assert alike(one, other)[0]
    assert not alike(one, [value + 0.001 for value in other])[0], "a pattern"
    assert not alike(one, [value + 0.006 for value in other], unseen=1.0)[0], "more than 5 ms"
    assert alike(one, [value + 0.001 for value in other], unseen=0.002)[0], "none that anybody sees"


def test_percentiles() -> None:
    assert [percentile(range(1, 101), part) for part in (0.5, 0.99, 1.0)] == [51, 100, 100]
