"""Who calls a service of the control plane, as the verified token says it, and who may (CP-12, 1.4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hooks.context import HookContext, Params
from hooks.errors import Forbidden, NotAuthenticated
from hooks.permission import effective
from hooks.rules import permissions_of


@dataclass(frozen=True, slots=True)
class Manager:
    """A caller: whose user he is, for which tenant his token is good, and what he may do there."""

    sub: str
    issuer: str
    """The tenant whose user he is. The same `sub` of another one is somebody else."""
    tenant: str
    """The tenant for which the token is good."""
    org_id: str | None
    permissions: frozenset[str]

    @property
    def is_platform(self) -> bool:
        """Whether his permissions are about tenants as such: those of an organization's token are about its own tenant."""
        return self.org_id is None and self.issuer == self.tenant

    def may(self, permission: str) -> bool:
        """Whether he holds a permission, in whatever scope his token has."""
        return permission in self.permissions


def manager(params: Params) -> Manager:
    """The caller of a call from outside. A token without claims about it is its own tenant's, without an organization.

    Raises:
        NotAuthenticated: nobody is logged in. Forbidden: the token is good for another tenant than the call's.
    """
    login = params.authentication
    if login is None:
        raise NotAuthenticated()
    claims, own = login.payload, params.tenant.id
    if claims.get("tid", own) != own:
        raise Forbidden("This login is for another app", data={"reason": "TenantMismatch"})
    user = "" if params.user is None else str(params.user["_id"])
    return Manager(
        sub=str(claims.get("sub") or user),
        issuer=str(claims.get("app_id") or own),
        tenant=own,
        org_id=claims.get("org_id") or None,
        permissions=effective(permissions_of(params.user)),
    )


def control_plane_only(control_plane: str) -> Callable[[HookContext], None]:
    """A before hook: lets through users of the control plane, whose id this is, and calls from inside.

    Raises:
        NotAuthenticated: nobody is logged in. Forbidden: another tenant has issued the token, whatever its user is called.
    """

    def check(context: HookContext) -> None:
        if context.params.provider is not None and manager(context.params).issuer != control_plane:
            raise Forbidden("Only users of the control plane may do this")

    return check
