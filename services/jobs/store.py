"""What the queue asks of a database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from services.jobs.model import State
from services.store import Document


class JobStore(Protocol):
    """Jobs of all tenants. Every call is bounded in time and raises our errors: Unavailable when nobody can be asked.

    Leases and ticks go by the database's clock: nodes whose clocks differ do not take each other's jobs away.
    """

    async def now(self) -> datetime:
        """The time by the database's clock."""
        ...

    async def insert(self, document: Document) -> bool:
        """Keeps a new job; False when there is one with its id."""
        ...

    async def unfinished(self, app_id: str, most: int) -> int:
        """How many of a tenant's jobs are scheduled, wait or run; counted to `most`."""
        ...

    async def wake(self) -> None:
        """Has jobs wait whose time has come, and those again whose node has not been heard of for too long."""
        ...

    async def tenants(self) -> Sequence[str]:
        """The ids of the tenants for which jobs wait."""
        ...

    async def claim(self, app_id: str, node: str, token: str, lease: float) -> Document | None:
        """Takes the tenant's oldest waiting job for a node, for `lease` seconds; `token` names this attempt."""
        ...

    async def renew(self, node: str, tokens: Sequence[str], lease: float) -> None:
        """Prolongs the leases of attempts that go on."""
        ...

    async def is_running(self, app_id: str, key: str, *, but: Any) -> bool:
        """Whether another job with this key runs."""
        ...

    async def settle(self, id: Any, token: str, changes: Mapping[str, Any]) -> bool:
        """Ends an attempt; False when the job has been taken from it."""
        ...

    async def find(self, app_id: str, chosen: Mapping[str, Any], skip: int, limit: int) -> tuple[list[Document], int]:
        """A tenant's jobs, the newest first, and how many there are."""
        ...

    async def get(self, app_id: str, id: str) -> Document | None:
        """One job of a tenant."""
        ...

    async def change(
        self, app_id: str, id: str, states: Sequence[State], changes: Mapping[str, Any]
    ) -> Document | None:
        """Changes a job of a tenant that is in one of the states; the job as it is then."""
        ...

    async def last_tick(self, schedule: str, now: datetime) -> datetime:
        """The last tick of a schedule that was seen to; a schedule that is new begins now."""
        ...

    async def set_back(self, schedule: str, last: datetime, now: datetime) -> None:
        """Has a schedule whose last tick is still `last`, in the future, begin again now."""
        ...

    async def ticked(self, schedule: str, tick: datetime) -> None:
        """Notes that a tick was seen to."""
        ...
