"""Memberships: which tenants a user of the control plane belongs to. Who keeps organizations answers it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol


class Memberships(Protocol):
    """What the services of the control plane ask."""

    async def tenants_of(self, user_id: str) -> Collection[str]:
        """The tenants in whose organizations the user is an active member."""
        ...

    async def is_member(self, user_id: str, tenant_id: str) -> bool:
        """Whether he is one in the organization of this tenant."""
        ...
