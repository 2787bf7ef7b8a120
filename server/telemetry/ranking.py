"""Which tenants have a name in the metrics: the busiest few; all others are `other`, and nothing is counted twice or lost."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Protocol

OTHER = "other"
TOP = 20
"""Tenants that are named."""
MOST = 10_000
"""Tenants that are counted one by one; the ones that have been silent longest are then counted as `other` alone."""
HALF_LIFE = 3
"""Windows after which half of the traffic is forgotten, more or less."""
EDGE = 1.25
"""How much busier a tenant has to be than one that is named to take its place: places are not to change all the time."""

Labels = tuple[str, ...]


class Counted(Protocol):
    """What is counted by tenant."""

    def promote(self, app_id: str) -> None:
        """The tenant is named from now on."""
        ...

    def demote(self, app_id: str) -> None:
        """The tenant is one of the others again."""
        ...

    def forget(self, app_id: str) -> None:
        """The tenant is counted as one of the others alone."""
        ...


class Ranking:
    """Traffic by tenant, and the busiest ones."""

    def __init__(self, *, top: int = TOP, most: int = MOST) -> None:
        self._top = top
        self._most = most
        self._traffic: OrderedDict[str, float] = OrderedDict()
        self._families: list[Counted] = []
        self.named: set[str] = set()

    def add(self, family: Counted) -> None:
        """Tells `family` who is named."""
        self._families.append(family)

    def note(self, app_id: str, weight: float = 1.0) -> None:
        """Counts traffic of a tenant."""
        traffic = self._traffic
        if app_id in traffic:
            traffic[app_id] += weight
            return
        traffic[app_id] = weight
        if len(self.named) < self._top and app_id != OTHER:
            self._promote(app_id)
        while len(traffic) > self._most:
            gone = next(id for id in traffic if id not in self.named)
            del traffic[gone]
            for family in self._families:
                family.forget(gone)

    def review(self) -> None:
        """Ends a window: looks who is named from now on, and begins to forget."""
        # An app of that name is one of the others for good: two series under one name would spoil the page for all.
        unnamed = (id for id in self._traffic if id not in self.named and id != OTHER)
        rest = sorted(unnamed, key=self._traffic.__getitem__, reverse=True)
        for newcomer in rest[: self._top]:
            quietest = min(self.named, key=lambda id: self._traffic.get(id, 0.0))
            if self._traffic[newcomer] <= EDGE * self._traffic.get(quietest, 0.0):
                break
            self._demote(quietest)
            self._promote(newcomer)
        keep = 0.5 ** (1 / HALF_LIFE)
        for id in self._traffic:
            self._traffic[id] *= keep

    def _promote(self, app_id: str) -> None:
        self.named.add(app_id)
        for family in self._families:
            family.promote(app_id)

    def _demote(self, app_id: str) -> None:
        self.named.discard(app_id)
        for family in self._families:
            family.demote(app_id)


class TenantCounter:
    """A counter by tenant and other labels. What is exported never goes backwards, and its sum is the total, exactly.

    A tenant that is named later begins at nothing: what it had counted stays with the others. When it loses its name, all it
    has counted goes there.
    """

    def __init__(self, ranking: Ranking) -> None:
        self.totals: dict[Labels, int] = {}
        self._by_tenant: dict[str, dict[Labels, int]] = {}
        self._before: dict[str, dict[Labels, int]] = {}
        """What named tenants had counted when they were named."""
        self._ranking = ranking
        ranking.add(self)

    def inc(self, app_id: str, labels: Labels = (), by: int = 1) -> None:
        """Counts."""
        self.totals[labels] = self.totals.get(labels, 0) + by
        own = self._by_tenant.get(app_id)
        if own is None:
            own = self._by_tenant[app_id] = {}
        own[labels] = own.get(labels, 0) + by

    def promote(self, app_id: str) -> None:
        self._before[app_id] = dict(self._by_tenant.get(app_id, {}))

    def demote(self, app_id: str) -> None:
        self._before.pop(app_id, None)

    def forget(self, app_id: str) -> None:
        self._by_tenant.pop(app_id, None)

    def samples(self) -> Iterator[tuple[str, Labels, int]]:
        """`(tenant or "other", labels, count)`, of which the counts of each labels sum up to its total."""
        rest: dict[Labels, int] = dict(self.totals)
        for app_id in sorted(self._ranking.named):
            before: Mapping[Labels, int] = self._before.get(app_id, {})
            for labels, count in self._by_tenant.get(app_id, {}).items():
                own = count - before.get(labels, 0)
                rest[labels] -= own
                yield app_id, labels, own
        for labels, count in rest.items():
            yield OTHER, labels, count
