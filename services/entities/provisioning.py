"""Provisioning: what a tenant needs of entities before it is ready, ensured step by step; and who belongs to which tenant.

Each step finds what is there by a key that the database keeps unique, or makes it: it may run again, and twice at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from hooks.context import Record
from hooks.errors import Conflict, GeneralError, NotFound
from hooks.permission import TENANT_ADMIN
from hooks.tenant import Tenant
from services.entities.giving import MANAGEMENT_SERVER
from services.entities.grants import Grants
from services.entities.records import Entities
from services.entities.registry import (
    CLIENTS,
    INVITATIONS,
    MEMBERS,
    ORGANIZATIONS,
    ROLE_PERMISSIONS,
    ROLES,
    USER_ROLES,
    Entity,
)

ADMIN_ROLE: Final = "tenant-admin"
"""The control plane's role that whoever has made a tenant gets in its organization."""
DEFAULT_PERMISSIONS: Final = (TENANT_ADMIN,)
DEFAULT_CLIENT: Final = "default"

Plane = Callable[[], Awaitable[Tenant | None]]
"""The control plane's tenant."""


class Provisioning:
    """Ensures entities of tenants that are made, and takes away those of tenants that go."""

    def __init__(self, entities: Entities, plane: Plane, *, permissions: Sequence[str] = DEFAULT_PERMISSIONS) -> None:
        """`permissions` are what the role `tenant-admin` holds, once there is one."""
        self._entities = entities
        self._plane = plane
        self.permissions = permissions

    async def ensure_organization(self, tenant: Tenant) -> Record:
        """The control plane's organization for the tenant, linked by `tenant_id`, which never changes (CP-3).

        Raises:
            Conflict: another organization has the tenant's name.
        """
        made = {"name": tenant.id, "display_name": tenant.name, "tenant_id": tenant.id}
        return await self._ensure(await self._home(), ORGANIZATIONS, {"tenant_id": tenant.id}, made)

    async def ensure_admin_role(self) -> Record:
        """The role `tenant-admin`, which there is once in the control plane (CP-24)."""
        made = {
            "name": ADMIN_ROLE,
            "description": "Administers the app of an organization",
            # It is given in organizations of the control plane: nobody has it inside of an app.
            "metadata": {"sync": False},
        }
        return await self._ensure(await self._home(), ROLES, {"name": ADMIN_ROLE}, made)

    async def ensure_permissions(self) -> None:
        """What the role holds: really granted, by triples of the resource server `management`.

        A role that holds anything stays as it is: somebody may have decided so.
        """
        home, role = await self._home(), await self.ensure_admin_role()
        place = {"role_id": str(role["_id"])}

        async def grant() -> None:
            if not await self._entities.of(home, ROLE_PERMISSIONS).count(place):
                for word in self.permissions:
                    triple = {**place, "rs_identifier": MANAGEMENT_SERVER, "permission": word}
                    await self._entities.add(home, ROLE_PERMISSIONS, triple)

        try:
            await self._entities.transaction(home, grant)
        except Conflict:
            # Somebody was faster.
            await self._entities.transaction(home, grant)

    async def ensure_creator(self, tenant: Tenant, user_id: str | None) -> None:
        """The membership of whoever has made the tenant; an operator at the server needs none (CP-23).

        Raises:
            NotFound: there is no such user any more.
        """
        if user_id is None:
            return
        home = await self._home()
        if not await self._entities.has_user(home, user_id):
            raise NotFound("Who has made the app is no user of the control plane any more")
        organization, role = await self.ensure_organization(tenant), await self.ensure_admin_role()
        place = {"org_id": str(organization["_id"]), "user_id": user_id}
        member = await self._ensure(home, MEMBERS, place, {**place, "roles": [str(role["_id"])]})
        if str(role["_id"]) not in member.get("roles", ()):
            await self._entities.change(home, MEMBERS, place, {"$addToSet": {"roles": str(role["_id"])}})

    async def ensure_client(self, tenant: Tenant, name: str = DEFAULT_CLIENT, *, id: str | None = None) -> Record:
        """A client of the tenant: its default one, or the one of this name and id.

        Raises:
            Conflict: another client has the name.
        """
        if id is None:
            return await self._ensure(tenant, CLIENTS, {"name": name}, {"name": name})
        return await self._ensure(tenant, CLIENTS, {"_id": id}, {"_id": id, "name": name})

    async def end_memberships(self, tenant: Tenant) -> None:
        """Ends all memberships and invitations of the tenant's organization."""
        home = await self._home()
        organization = await self._entities.first(home, ORGANIZATIONS, {"tenant_id": tenant.id})
        if organization is not None:
            belonging = {"org_id": str(organization["_id"])}
            for entity in (MEMBERS, INVITATIONS, USER_ROLES):
                await self._entities.of(home, entity).delete_many(belonging)

    async def remove_organization(self, tenant: Tenant) -> None:
        """Removes the tenant's organization; whoever deletes a tenant does this last (CP-25)."""
        await self.end_memberships(tenant)
        await self._entities.of(await self._home(), ORGANIZATIONS).delete_many({"tenant_id": tenant.id})

    async def _ensure(self, tenant: Tenant, entity: Entity, key: Mapping[str, Any], made: Record) -> Record:
        found = await self._entities.first(tenant, entity, key)
        if found is not None:
            return found
        try:
            return await self._entities.add(tenant, entity, made)
        except Conflict:
            # Somebody was faster, or something else has the name.
            found = await self._entities.first(tenant, entity, key)
            if found is None:
                raise
            return found

    async def _home(self) -> Tenant:
        home = await self._plane()
        if home is None:
            raise GeneralError("There is no control plane")
        return home


class Memberships:
    """Which tenants a user of the control plane belongs to, by the `tenant_id` of organizations and never by names."""

    def __init__(self, entities: Entities, grants: Grants, plane: Plane) -> None:
        self._entities = entities
        self._grants = grants
        self._plane = plane

    async def tenants_of(self, user_id: str) -> list[str]:
        """The ids of the tenants whose organizations the user is a member of, in their order."""
        home = await self._plane()
        if home is None:
            return []
        members = await self._entities.find(home, MEMBERS, {"user_id": user_id})
        found = await self._entities.existing(home, ORGANIZATIONS, (member["org_id"] for member in members))
        return sorted(one["tenant_id"] for one in found.values() if one.get("tenant_id"))

    async def is_member(self, user_id: str, tenant_id: str) -> bool:
        """Whether the user is a member of the tenant's organization."""
        return await self.permissions(user_id, tenant_id) is not None

    async def permissions(self, user_id: str, tenant_id: str) -> frozenset[str] | None:
        """What the user may do there by the roles of his membership; None when he is no member."""
        home = await self._plane()
        if home is None:
            return None
        organization = await self._entities.first(home, ORGANIZATIONS, {"tenant_id": tenant_id})
        if organization is None:
            return None
        return await self._grants.permissions(home, user_id, str(organization["_id"]))
