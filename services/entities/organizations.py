"""The organizations service: groups of a tenant's users. In the control plane each stands for one of the other tenants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hooks.context import HookContext, Params, Record
from hooks.errors import Forbidden
from hooks.rules import Rule, permissions_of
from services.entities.names import check_organization_name
from services.entities.options import narrow
from services.entities.records import Entities
from services.entities.registry import INVITATIONS, MEMBERS, ORGANIZATIONS, USER_ROLES
from services.entities.service import METADATA, EntityService, entity_hooks
from services.isolation import Isolation
from services.query import MAX_VALUES
from services.registration import HooksByKind

TENANT = "tenant_id"
"""The tenant that an organization of the control plane stands for; it never changes. Rights come from it, never from names."""
READ = "read:organizations"
RULES: Mapping[str, Rule] = {
    "find": "authenticated",
    "get": "authenticated",
    "create": {"permission": "create:organizations"},
    "patch": {"permission": "update:organizations"},
    "remove": {"permission": "delete:organizations"},
}
HEARING: Rule = {"permission": READ}
"""Who hears of organizations: those who may read all of them."""
METHODS = ("find", "get", "create", "patch", "remove")
DECLARED: Mapping[str, Any] = {
    "name": {"type": "string", "required": True},
    "display_name": {"type": "string", "minLength": 1, "maxLength": 120},
    "metadata": METADATA,
}


class OrganizationsService(EntityService):
    """Organizations `{_id, name, display_name, metadata, tenant_id?}`. Who may not read all of them reads those he is in."""

    def __init__(self, isolation: Isolation, entities: Entities) -> None:
        super().__init__(isolation, ORGANIZATIONS, DECLARED, readonly=(TENANT,))
        self.schema = {**self.schema, TENANT: {"type": "string", "description": "The app that it stands for."}}
        self._entities = entities

    def hooks(self) -> HooksByKind:
        """The service's hooks."""
        return entity_hooks(
            self,
            canonical=("name",),
            unique="name",
            find=[self._show_own],
            get=[self._show_own],
            create=[check_organization_name, _refuse_in_control_plane],
            patch=[check_organization_name, self._keep_linked_name],
        )

    async def remove(self, id: Any, params: Params) -> Record:
        """Removes an organization with its memberships, invitations and the roles that were given in it.

        Raises:
            Forbidden: it stands for a tenant, and goes when that is deleted.
        """
        tenant = params.tenant

        async def erase() -> Record:
            found = await self.get(id, params)
            _check_unlinked(found, params, "removed with its app")
            belonging = {"org_id": str(found["_id"])}
            for entity in (MEMBERS, INVITATIONS, USER_ROLES):
                await self._entities.of(tenant, entity).delete_many(belonging)
            removed: Any = await super(OrganizationsService, self).remove(id, params)
            return dict(removed)

        return await self._entities.transaction(tenant, erase)

    async def _show_own(self, context: HookContext) -> None:
        """Before find and get: only those who may read all organizations see what they do not belong to (TK-5)."""
        params = context.params
        if params.provider is None or READ in permissions_of(params.user):
            return
        own: list[str] = []
        if params.user is not None:
            memberships = await self._entities.find(params.tenant, MEMBERS, {"user_id": str(params.user["_id"])})
            own = [member["org_id"] for member in memberships]
        params.query = narrow(params.query, _id={"$in": own[:MAX_VALUES]})

    async def _keep_linked_name(self, context: HookContext) -> None:
        if context.params.provider is not None and isinstance(context.data, dict) and "name" in context.data:
            found = await self._entities.get(context.tenant, ORGANIZATIONS, context.id)
            if found is not None and context.data["name"] != found["name"]:
                _check_unlinked(found, context.params, "named as its app is")


def _refuse_in_control_plane(context: HookContext) -> None:
    """Before create: an organization of the control plane is made together with the tenant that it stands for."""
    if context.params.provider is not None and context.tenant.is_control_plane:
        raise Forbidden("An organization of the control plane is made with its app: create the app")


def _check_unlinked(organization: Record, params: Params, what: str) -> None:
    if params.provider is not None and organization.get(TENANT) is not None:
        raise Forbidden(f"This organization stands for an app, and is {what}")
