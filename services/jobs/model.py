"""What a job is, who does it, and when it comes again."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from cronsim import CronSim, CronSimError

from hooks.context import Record
from hooks.tenant import Tenant

FIRST_PAUSE = 2.0
"""Seconds before the second attempt; each further one waits twice as long."""
LONGEST_PAUSE = 3600.0


class State(StrEnum):
    """Where a job stands."""

    SCHEDULED = "scheduled"
    """Its time has not come."""
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    """Given up after its last attempt."""
    DROPPED = "dropped"
    """Cancelled, or its tenant is gone."""


ENDED = frozenset({State.DONE, State.FAILED, State.DROPPED})


@dataclass(frozen=True, slots=True)
class Job:
    """One piece of work, as its handler gets it, inside the scope of its tenant."""

    id: str
    name: str
    tenant: Tenant
    """As it is now, not as it was when the job was made."""
    payload: Mapping[str, Any]
    attempt: int
    """1 is the first."""
    actor: str | None = None
    """The user whose call made the job; None is the server itself."""
    org_id: str | None = None
    call: str | None = None
    """The call that made it, as log lines name it."""


Work = Callable[[Job], Awaitable[None]]


class GiveUp(Exception):
    """Raised by a handler whose job can never succeed: it fails at once, and is not tried again."""


@dataclass(frozen=True, slots=True)
class Handler:
    """Who does the jobs of a name."""

    name: str
    work: Work
    writes: bool = True
    """Whether it changes the tenant's data: then it waits while the tenant moves."""
    attempts: int = 5
    timeout: float = 300.0
    """Seconds that one attempt may take."""
    permission: str | None = None
    """What the actor must still hold when the job runs."""
    control: bool = False
    """A job of the control plane itself: it is made by `Jobs.enqueue_control` alone."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When jobs come by themselves: at each tick one for every tenant that is served, or one for the control plane."""

    name: str
    cron: str
    """Five fields as of crontab, in UTC; or six, with seconds first."""
    handler: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    jitter: float = 0.0
    """Seconds over which the tenants of one tick are spread."""

    def __post_init__(self) -> None:
        try:
            CronSim(self.cron, datetime.now(UTC))
        except CronSimError as error:
            raise ValueError(f"'{self.cron}' is no schedule: five fields as of crontab") from error

    def after(self, moment: datetime) -> datetime:
        """The first tick after a moment."""
        return next(CronSim(self.cron, moment))

    def latest(self, moment: datetime) -> datetime:
        """The last tick that has come at a moment, found at once however many came before it."""
        return next(CronSim(self.cron, moment + timedelta(microseconds=1), reverse=True))


def pause(attempt: int) -> float:
    """Seconds to wait after an attempt that failed: twice as long each time, and never the same for all."""
    return float(min(FIRST_PAUSE * 2 ** (attempt - 1), LONGEST_PAUSE) * random.uniform(0.75, 1.25))


def shown(document: Mapping[str, Any]) -> Record:
    """What may be told of a job: not its payload, which can hold anything, and not who runs it."""
    names = ("name", "state", "attempt", "actor", "run_at", "created_at", "started_at", "ended_at", "reason")
    return {"_id": document["_id"], **{name: document[name] for name in names if document.get(name) is not None}}
