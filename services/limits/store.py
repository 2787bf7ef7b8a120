"""What limits ask of a database: one count for all nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from hooks.tenant import Rate


@dataclass(frozen=True, slots=True)
class Grant:
    """Tokens that a bucket gave away."""

    tokens: int
    wait: float
    """Seconds until it has the next one; 0 when it has one now."""


class RateStore(Protocol):
    """Buckets of all nodes, filled by the store's own clock: a node whose clock is wrong makes no tokens."""

    async def open(self) -> None:
        """Looks whether the store is there.

        Raises:
            Unavailable: it is not.
        """
        ...

    async def close(self) -> None:
        """Gives back what it holds."""
        ...

    async def take(self, app_id: str, kind: str, subject: str, rate: Rate, want: int) -> Grant:
        """Takes up to `want` tokens from a bucket, which is full when nobody has taken any for long."""
        ...


class QuotaStore(Protocol):
    """Counters by tenant, name and period."""

    async def reserve(self, app_id: str, name: str, period: str, want: int, limit: int) -> tuple[int, int]:
        """Counts up to `want` units, as many as the limit leaves: those, and all that are counted then."""
        ...

    async def give_back(self, app_id: str, name: str, period: str, units: int) -> None:
        """Counts units down again that were not used."""
        ...

    async def used(self, app_id: str, name: str, period: str) -> int:
        """How many units are counted."""
        ...
