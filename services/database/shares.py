"""How many commands a tenant may have at a database at once, so that others are answered whatever it asks for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, NamedTuple

from hooks.tenant import current_tenant

# Half of the connections for one tenant would leave too few for the second one that is as loud.
_PARTS = 4
#: A search that takes so many seconds, beyond the way to the server and back, is slow.
SLOW_SECONDS: Final = 0.01
# How far a limit grows in a second of quick searches, and when a tenant that asks for nothing begins anew.
_GROWTH = 20.0
_FORGET_SECONDS = 10.0


class Claim(NamedTuple):
    """For whom a command is sent, and whether it searches: reads, or changes whatever it finds."""

    tenant: str
    searches: bool


def claim(*, searches: bool) -> Claim | None:
    """The claim of the current tenant; None for the server itself, which has no share."""
    try:
        return Claim(current_tenant().id, searches)
    except LookupError:
        return None


@dataclass(slots=True)
class _Share:
    # How many searches it may have under way, between `least` and `most`.
    limit: float
    held: int = 0
    searches: int = 0
    # When the limit was last made smaller, and when anything was given back: in the loop's time.
    shrunk: float = 0.0
    used: float = 0.0


class Shares:
    """Counts the commands of each tenant, and says who may send one more (PO-3, LIMITS N1).

    A tenant has a quarter of the connections at most. Connections are not all that it uses: searches keep the processors of
    the database busy, so there may be as many as are quick, and of slow ones as few as keep a quarter of the processors busy.
    It is found as TCP finds its rate (RFC 5681): a tenant begins with few; quick searches raise its limit by the time that
    they took, so that a few of them among slow ones change little; a slow one halves it, once for all that were under way.
    Changes of single records are not judged: they wait for disks and other members, which serve many at once.
    """

    def __init__(self, size: int, *, processors: int | None = None) -> None:
        """Of `size` connections; of a server whose processors are not known a tenant has two slow searches at a time."""
        self.most: Final = max(1, size // _PARTS)
        self.least: Final = min(self.most, 2 if processors is None else max(1, processors // _PARTS))
        #: Seconds to the server and back, which say nothing about its work.
        self.round_trip = 0.0
        self._shares: dict[str, _Share] = {}
        self._loop = asyncio.get_running_loop()

    def room(self, claim: Claim) -> int:
        """How many such commands the tenant may send now; none when it is below one."""
        share = self._shares.get(claim.tenant)
        if share is None:
            return self._first if claim.searches else self.most
        left = self.most - share.held
        return min(left, int(share.limit) - share.searches) if claim.searches else left

    def take(self, claim: Claim) -> None:
        """Counts a command as sent; whether there is room is for the caller to ask."""
        share = self._shares.get(claim.tenant)
        if share is None:
            share = self._shares[claim.tenant] = _Share(self._first)
        share.held += 1
        share.searches += claim.searches

    def give_back(self, claim: Claim, seconds: float | None) -> None:
        """Counts a command as ended: it took so long, or nothing can be said of it."""
        share = self._shares[claim.tenant]
        share.held -= 1
        share.used = now = self._loop.time()
        if not claim.searches:
            return
        share.searches -= 1
        if seconds is None:
            return
        if seconds - self.round_trip < SLOW_SECONDS:
            if share.limit < self.most:
                share.limit = min(self.most, share.limit + seconds * _GROWTH)
        elif now - seconds >= share.shrunk:
            share.limit = max(self.least, share.limit / 2)
            share.shrunk = now

    def sweep(self) -> None:
        """Forgets the tenants that have not asked for anything for a while."""
        before = self._loop.time() - _FORGET_SECONDS
        for tenant in [tenant for tenant, share in self._shares.items() if not share.held and share.used < before]:
            del self._shares[tenant]

    @property
    def _first(self) -> int:
        return min(self.most, 2 * self.least)
