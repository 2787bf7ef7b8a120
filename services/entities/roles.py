"""The roles service and the permissions of roles: which scopes of which resource servers a role allows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hooks.context import HookContext, Params, Record
from hooks.errors import BadRequest, Conflict
from hooks.rules import Rule
from services.entities.giving import MANAGEMENT_SERVER, check_giving, scopes_of
from services.entities.options import take_flag, within
from services.entities.records import Entities
from services.entities.registry import INVITATIONS, MEMBERS, ROLE_PERMISSIONS, ROLES, USER_ROLES
from services.entities.service import METADATA, EntityService, entity_hooks
from services.isolation import Isolation
from services.registration import HooksByKind

RULES: Mapping[str, Rule] = {
    verb: {"permission": f"{word}:roles"}
    for verb, word in {
        "find": "read",
        "get": "read",
        "create": "create",
        "update": "update",
        "patch": "update",
        "remove": "delete",
    }.items()
}
DECLARED: Mapping[str, Any] = {
    "name": {"type": "string", "required": True},
    "description": {"type": "string", "maxLength": 500},
    "metadata": METADATA,
}
PERMISSION_RULES: Mapping[str, Rule] = {
    "find": {"permission": "read:roles"},
    "get": {"permission": "read:roles"},
    "create": {"permission": "update:roles"},
    "remove": {"permission": "update:roles"},
}
MOST_PERMISSIONS: Final = 500
"""Of one role."""
PERMISSION_METHODS: Final = ("find", "create", "remove")
DECLARED_PERMISSION: Mapping[str, Any] = {
    "role_id": {"type": "string", "maxLength": 256},
    "rs_identifier": {"type": "string", "required": True, "maxLength": 255},
    "permission": {"type": "string", "required": True, "maxLength": 100},
}


class RolesService(EntityService):
    """Roles `{_id, name, description, metadata}`."""

    def __init__(self, isolation: Isolation, entities: Entities) -> None:
        super().__init__(isolation, ROLES, DECLARED)
        self._entities = entities

    def hooks(self) -> HooksByKind:
        """The service's hooks."""
        return entity_hooks(self, canonical=("name",), unique="name")

    async def remove(self, id: Any, params: Params) -> Record:
        """Removes a role and its permissions; with the query `cascade: true` it is also taken from whoever has it.

        Raises:
            Conflict: somebody has it.
        """
        params.query, cascade = take_flag(params.query, "cascade")
        tenant, entities = params.tenant, self._entities

        async def erase() -> Record:
            removed: Any = await super(RolesService, self).remove(id, params)
            role_id = str(removed["_id"])
            given, listed = {"role_id": role_id}, {"roles": role_id}
            if cascade:
                await entities.of(tenant, USER_ROLES).delete_many(given)
                for entity in (MEMBERS, INVITATIONS):
                    await entities.change_all(tenant, entity, listed, {"$pull": listed})
            elif any(
                [
                    await entities.of(tenant, USER_ROLES).count(given),
                    await entities.of(tenant, MEMBERS).count(listed),
                    await entities.of(tenant, INVITATIONS).count(listed),
                ]
            ):
                raise Conflict("Somebody has this role: remove it with cascade=true", {"reason": "RoleAssigned"})
            await entities.of(tenant, ROLE_PERMISSIONS).delete_many(given)
            return dict(removed)

        return await entities.transaction(tenant, erase)


class PermissionsService(EntityService):
    """The permissions of one role `{_id, role_id, rs_identifier, permission}`, at `roles/:role/permissions`."""

    def __init__(self, isolation: Isolation, entities: Entities) -> None:
        super().__init__(isolation, ROLE_PERMISSIONS, DECLARED_PERMISSION)
        self._entities = entities

    def hooks(self) -> HooksByKind:
        """The service's hooks."""
        hooks = entity_hooks(self, canonical=("rs_identifier",), unique="permission", create=[self._check_new])
        before: Any = hooks["before"]
        before["all"] = [within(self._entities, ROLES, "role", "role_id"), *before["all"]]
        return hooks

    async def _check_new(self, context: HookContext) -> None:
        """Before create: a resource server of the tenant defines the permission, and the caller may give it."""
        data, tenant = context.data, context.tenant
        if await self._entities.of(tenant, ROLE_PERMISSIONS).count({"role_id": data["role_id"]}) >= MOST_PERMISSIONS:
            raise BadRequest(f"A role has at most {MOST_PERMISSIONS} permissions")
        scopes = await scopes_of(self._entities, tenant, data["rs_identifier"])
        if scopes is None:
            raise BadRequest(f"There is no resource server '{data['rs_identifier'][:64]}'")
        if data["permission"] not in scopes:
            raise BadRequest(f"The resource server has no scope '{data['permission'][:64]}'")
        if context.params.provider is not None and data["rs_identifier"] == MANAGEMENT_SERVER:
            check_giving(context.params.user, [data["permission"]])
