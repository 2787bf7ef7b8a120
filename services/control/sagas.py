"""Sagas: which steps an operation has, in which order. Whoever knows how to do a step hands it in.

A step *ensures*: it may run again after it was done, after it was begun, and at the same time as a step of the same operation
that a dying process has not given up yet.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from hooks.tenant import Tenant
from services.control.operations import Operation

PROVISION = "provision"
DELETE = "delete"
SUSPEND = "suspend"
RESUME = "resume"
PROMOTE = "promote"
"""Brings a tenant's data to another placement, whatever the direction."""
FINALIZE = "finalize"
"""Deletes what a move has left behind."""
ROTATE_KEYS = "rotate-keys"

ORDER: Mapping[str, tuple[str, ...]] = {
    PROVISION: (
        "organization",
        "admin-role",
        "default-permissions",
        "creator-membership",
        "database",
        "indexes",
        "signing-key",
        "default-client",
        "settings",
        "backfill:resource-servers",
        "backfill:roles",
        "backfill:role-permissions",
        "backfill:connections",
        "verify",
        "ready",
        "after-hooks",
    ),
    DELETE: (
        "sockets",
        "jobs",
        "tokens",
        "export",
        "purge",
        "keys",
        "domains",
        "memberships",
        "organization",
        "verify",
        "tombstone",
        "after-hooks",
    ),
    SUSPEND: ("suspend", "sockets"),
    RESUME: ("resume",),
    PROMOTE: ("preflight", "mark", "copy", "follow", "switch", "retain"),
    FINALIZE: ("purge-source", "proof"),
    ROTATE_KEYS: ("rotate",),
}
"""The steps of each kind (CP-21, CP-25). Those that nobody has handed in are left out."""


class Note(Protocol):
    """Keeps how far a long step is, for those who watch."""

    async def __call__(self, **progress: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class Work:
    """What a step gets: the operation, its tenant as it is now, and a way to tell how far it is."""

    operation: Operation
    tenant: Tenant
    note: Note


@dataclass(frozen=True, slots=True)
class Step:
    """One step. `ensure` raises when it could not be done; what it raises is told to operators, if it is one of our errors."""

    name: str
    ensure: Callable[[Work], Awaitable[None]]


class Sagas:
    """The steps that were handed in."""

    def __init__(self) -> None:
        self._order = dict(ORDER)
        self._steps: dict[str, dict[str, Step]] = {kind: {} for kind in ORDER}

    def define(self, kind: str, *steps: Step) -> None:
        """Adds a kind of operation, such as `promote`, with its steps in their order; managers may ask for it.

        Raises:
            ValueError: there is one of this name.
        """
        if kind in self._order:
            raise ValueError(f"There is an operation '{kind}'")
        self._order[kind] = tuple(step.name for step in steps)
        self._steps[kind] = {}
        self.add(kind, *steps)

    @property
    def kinds(self) -> frozenset[str]:
        """Those of which at least one step is known here."""
        return frozenset(kind for kind, steps in self._steps.items() if steps)

    def add(self, kind: str, *steps: Step) -> None:
        """Takes steps on, wherever they have their place.

        Raises:
            ValueError: a step that no such saga has, or has already.
        """
        for step in steps:
            if step.name not in self._order[kind]:
                raise ValueError(f"'{step.name}' is no step of '{kind}'")
            if step.name in self._steps[kind]:
                raise ValueError(f"The step '{step.name}' of '{kind}' was handed in already")
            self._steps[kind][step.name] = step

    def names(self, kind: str) -> tuple[str, ...]:
        """The steps of a kind of operation in their order."""
        return tuple(name for name in self._order[kind] if name in self._steps[kind])

    def step(self, kind: str, name: str) -> Step | None:
        """A step by name."""
        return self._steps.get(kind, {}).get(name)
