"""Principals: who calls, as rules see him: a user with the permissions that he has here and now, or a manager.

What permissions rest on is not known here: `services/entities/grants.py` finds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from hooks.context import Authentication, Record
from hooks.errors import Forbidden
from hooks.tenant import Tenant
from services.authentication.tokens import Scope, effective_tenant, mismatch


class Grant(Protocol):
    """What a login may do in one tenant, apart from the user's own record."""

    @property
    def is_stale(self) -> bool:
        """Whether something that it rests on has changed since it was found."""
        ...

    def principal(self, user: Record) -> Record:
        """The user as rules see him, by his record as he himself is shown it, which stays as it is.

        Raises:
            Forbidden: he has nothing to do in that tenant.
        """
        ...


class LoggedIn(NamedTuple):
    """A login that was verified."""

    login: Authentication
    user: Record
    """As he is shown his own record."""
    principal: Record
    """As rules see him."""


class Principals(Protocol):
    """Finds grants and memberships."""

    async def grant(self, tenant: Tenant, issuer: Tenant, claims: Mapping[str, Any]) -> Grant:
        """What a token of the issuer may do in the tenant.

        Raises:
            NotAuthenticated: it says what holds no more, and is to be got anew. Forbidden: it is good, but not here.
        """
        ...

    async def enter(self, issuer: Tenant, user_id: str, named: str) -> Scope | Forbidden:
        """The membership of a user of the issuer in the organization that is named by id or name, or why there is none."""
        ...

    async def enter_tenant(self, issuer: Tenant, user_id: str, tenant: Tenant) -> Scope | Forbidden:
        """As `enter`, in the organization of the issuer, the control plane, that stands for a tenant."""
        ...


class OwnGrant:
    """A user's own permissions and nothing else."""

    is_stale = False

    def principal(self, user: Record) -> Record:
        """The user as he is."""
        return user


class OwnPrincipals:
    """For servers without organizations and roles."""

    async def grant(self, tenant: Tenant, issuer: Tenant, claims: Mapping[str, Any]) -> Grant:
        """See `Principals`."""
        if effective_tenant(claims) != tenant.id:
            raise mismatch()
        return OwnGrant()

    async def enter(self, issuer: Tenant, user_id: str, named: str) -> Scope | Forbidden:
        """There is no organization."""
        return not_a_member()

    async def enter_tenant(self, issuer: Tenant, user_id: str, tenant: Tenant) -> Scope | Forbidden:
        """There is no organization."""
        return not_a_member()


def not_a_member() -> Forbidden:
    """The one error for an organization that there is not, and for one whose member one is not (TK-7)."""
    return Forbidden("You are no member of this organization", data={"reason": "not_a_member", "code": "not_a_member"})


def unavailable() -> Forbidden:
    """The error for a member whose organization's app is not being served."""
    reason = {"reason": "TenantUnavailable", "code": "tenant_unavailable"}
    return Forbidden("The app of this organization is not available", data=reason)
