"""Samples of times, and whether two of them could come from one source."""

from __future__ import annotations

import math
import random
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence


async def measure(
    ways: Mapping[str, Callable[[], Awaitable[object]]],
    samples: int,
    *,
    settle: Callable[[], Awaitable[object]] | None = None,
) -> dict[str, list[float]]:
    """Seconds that each way takes, so many times, in an order without order: what slows the machine slows all alike.

    `settle` ends what one of them has left to be done, before the next is timed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    order = [*ways] * samples
    random.shuffle(order)
    for name in order:
        began = time.perf_counter()
        await ways[name]()
        seconds[name].append(time.perf_counter() - began)
        if settle is not None:
            await settle()
    return seconds


def mann_whitney(one: Sequence[float], other: Sequence[float]) -> float:
    """The two-sided p of the Mann-Whitney U test: how likely so different samples of one source are. For 20 values or more."""
    values = sorted([*one, *other])
    ranks, place = {}, 1
    ties = Counter(values)
    for value in dict.fromkeys(values):
        ranks[value] = place + (ties[value] - 1) / 2
        place += ties[value]
    m, n, total = len(one), len(other), len(values)
    u = sum(ranks[value] for value in one) - m * (m + 1) / 2
    tied = sum(count**3 - count for count in ties.values())
    deviation = math.sqrt(m * n / 12 * (total + 1 - tied / (total * (total - 1))))
    if deviation == 0:
        return 1.0
    return math.erfc(max(0.0, abs(u - m * n / 2) - 0.5) / deviation / math.sqrt(2))


def alike(
    one: Sequence[float], other: Sequence[float], *, seconds: float = 0.005, unseen: float = 0.0
) -> tuple[bool, str]:
    """Whether the times tell nothing: their medians differ by less than `seconds`, and by no pattern; and what was found.

    On a machine that others keep busy everything takes longer: then a tenth of it counts. A pattern within `unseen` seconds
    is none that anybody sees over a network.
    """
    medians = statistics.median(one), statistics.median(other)
    difference, likely = abs(medians[0] - medians[1]), mann_whitney(one, other)
    is_small = difference < max(seconds, min(medians) / 10)
    told = f"p = {likely:.3f}, medians {medians[0] * 1000:.3f} and {medians[1] * 1000:.3f} ms"
    return is_small and (likely > 0.01 or difference < unseen), told


def percentile(values: Sequence[float], part: float) -> float:
    """The value below which this part of all lies."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]
