"""What searches of each tenant take: the price that the next one pays in advance (`hooks/searching.py`)."""

from __future__ import annotations

from collections import OrderedDict

FIRST = 10.0
"""Milliseconds for one of a tenant of which nothing is known."""
WEIGHT = 0.25
"""How much the newest one counts among those before it."""
TENANTS = 10_000


class SearchTimes:
    """A moving average for each tenant: quick ones become cheap after a few, slow ones dear."""

    def __init__(self) -> None:
        self._averages: OrderedDict[str, float] = OrderedDict()

    def expected(self, app_id: str) -> int:
        """Milliseconds, one at least."""
        return max(1, round(self._averages.get(app_id, FIRST)))

    def learn(self, app_id: str, milliseconds: int) -> None:
        """Hears what one took."""
        before = self._averages.pop(app_id, FIRST)
        self._averages[app_id] = before + (milliseconds - before) * WEIGHT
        if len(self._averages) > TENANTS:
            self._averages.popitem(last=False)
