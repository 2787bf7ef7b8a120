"""Permissions: the words that Roost's own services ask for, and what the bundle among them implies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

PRINCIPAL_PREFIX: Final = "cp:"
"""How the id of a manager from the control plane begins where a user's id would stand, inside another tenant."""


def _crud(*nouns: str) -> frozenset[str]:
    return frozenset(f"{verb}:{noun}" for noun in nouns for verb in ("read", "create", "update", "delete"))


TENANT_LEVEL: Final = _crud(
    "organizations",
    "organization_members",
    "roles",
    "resource_servers",
    "connections",
    "clients",
    "users",
    "domains",
    "jobs",
) | {"read:tenant_settings", "update:tenant_settings", "read:tenant_operations", "create:tenant_operations"}
"""What may be done inside one tenant."""
TENANT_ADMIN: Final = "tenant:admin"
"""The bundle that implies all of them."""
ADMIN_ORGANIZATIONS: Final = "admin:organizations"
"""To act on any tenant without being a member: counts only in the control plane, in a token without an organization."""
PLATFORM: Final = _crud("tenants") | {ADMIN_ORGANIZATIONS}
"""What may be done to tenants as such."""
MANAGEMENT: Final = TENANT_LEVEL | PLATFORM | {TENANT_ADMIN}
"""All of them: the scopes of the resource server `management`."""


def effective(permissions: Iterable[str]) -> frozenset[str]:
    """The permissions with what the bundle among them implies."""
    held = frozenset(permissions)
    return held | TENANT_LEVEL if TENANT_ADMIN in held else held
