"""A tenant: the app that is hosted, as an immutable snapshot of its catalogue entry; and the current-tenant scope."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

TENANT_ID = re.compile(r"[a-z0-9]([a-z0-9-]{1,61}[a-z0-9])")
"""Lower case letters, digits and inner hyphens; 3 to 63 characters."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a tenant's data is kept: the isolation model, the cluster's name and the database's name."""

    model: str = "shared"
    cluster: str = "default"
    database: str = "roost"


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """How users of the tenant log in."""

    username_field: str = "username"


@dataclass(frozen=True, slots=True)
class Tenant:
    """One hosted app. Changes make a new snapshot with a higher epoch; calls keep the one they started with."""

    id: str
    name: str
    status: str = "ready"
    epoch: int = 1
    allowed_origins: frozenset[str] = frozenset()
    auth: AuthSettings = AuthSettings()
    placement: Placement = Placement()
    services: Mapping[str, Any] = field(default_factory=dict)
    """The declared services by path, as `services/declaration.py` understands them."""


_current: ContextVar[Tenant] = ContextVar("roost_tenant")


@contextmanager
def tenant_scope(tenant: Tenant) -> Iterator[Tenant]:
    """Makes `tenant` the current one for logs, traces and background work until the block ends."""
    token = _current.set(tenant)
    try:
        yield tenant
    finally:
        _current.reset(token)


def current_tenant() -> Tenant:
    """The tenant of this task. There is no default tenant.

    Raises:
        LookupError: outside of any `tenant_scope`.
    """
    return _current.get()
