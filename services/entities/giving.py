"""Giving: nobody hands out more of Roost's own permissions than he has, and roles are given that there are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from hooks.context import Params, Record
from hooks.errors import BadRequest, Forbidden
from hooks.permission import MANAGEMENT, PLATFORM, effective
from hooks.rules import permissions_of
from hooks.tenant import Tenant
from services.entities.records import Entities
from services.entities.registry import RESOURCE_SERVERS, ROLE_PERMISSIONS, ROLES

MANAGEMENT_SERVER: Final = "management"
"""The resource server whose scopes are Roost's own permissions. Every tenant has it, and no record of it."""
OWN_WORDS: Final = MANAGEMENT | {"admin"}
"""Words that Roost's own services ask for: no other resource server can give them, whatever its scopes are called (TK-11)."""


def management_of(tenant: Tenant) -> frozenset[str]:
    """The scopes of the resource server `management` in a tenant: what is done to tenants is the control plane's alone."""
    return MANAGEMENT if tenant.is_control_plane else MANAGEMENT - PLATFORM


async def scopes_of(entities: Entities, tenant: Tenant, identifier: str) -> frozenset[str] | None:
    """What a resource server of the tenant defines now; None when there is no such one."""
    if identifier == MANAGEMENT_SERVER:
        return management_of(tenant)
    found = await entities.first(tenant, RESOURCE_SERVERS, {"identifier": identifier})
    return None if found is None else frozenset(scope["value"] for scope in found.get("scopes", ()))


async def check_roles(entities: Entities, params: Params, role_ids: Iterable[str]) -> list[str]:
    """The roles that are to be given, each once.

    Raises:
        BadRequest: there is no such role. Forbidden: one holds a permission of Roost's own that the caller has not.
    """
    ids = [*dict.fromkeys(role_ids)]
    found = await entities.existing(params.tenant, ROLES, ids)
    for id in ids:
        if id not in found:
            raise BadRequest(f"There is no role '{id[:64]}'")
    if params.provider is not None and ids:
        triples = await entities.find(params.tenant, ROLE_PERMISSIONS, {"role_id": {"$in": ids}})
        check_giving(params.user, (triple["permission"] for triple in triples if is_management(triple)))
    return ids


def check_giving(user: Record | None, words: Iterable[str]) -> None:
    """Lets a caller give what he has.

    Raises:
        Forbidden: he lacks one of the permissions.
    """
    if missing := effective(words) - effective(permissions_of(user)):
        raise Forbidden(f"You cannot give the permission '{min(missing)}': you do not have it yourself")


def is_management(triple: Record | dict[str, Any]) -> bool:
    """Whether a permission of a role is one of Roost's own."""
    return bool(triple["rs_identifier"] == MANAGEMENT_SERVER)
