"""The members service: who belongs to which organization, with which roles there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hooks.context import HookContext, Params, Record
from hooks.errors import BadRequest, Conflict
from hooks.permission import TENANT_ADMIN
from hooks.rules import Rule
from hooks.scopes import PRINCIPAL_PREFIX as KEY_PRINCIPAL
from hooks.tenant import Tenant
from services.authentication.api_keys import COLLECTION as API_KEYS
from services.authentication.directory import Directory
from services.entities.giving import MANAGEMENT_SERVER, check_roles
from services.entities.options import required, within
from services.entities.records import Entities
from services.entities.registry import MEMBERS, ORGANIZATIONS, ROLE_PERMISSIONS, USER_ROLES
from services.entities.service import EntityService, entity_hooks
from services.isolation import Isolation
from services.registration import HooksByKind

MOST_ROLES: Final = 50
RULES: Mapping[str, Rule] = {
    verb: {"permission": f"{word}:organization_members"}
    for verb, word in {
        "find": "read",
        "get": "read",
        "create": "create",
        "patch": "update",
        "remove": "delete",
    }.items()
}
METHODS: Final = ("find", "create", "patch", "remove")
ROLE_IDS: Mapping[str, Any] = {
    "type": "array",
    "items": {"type": "string", "minLength": 1, "maxLength": 256},
    "maxItems": MOST_ROLES,
    "uniqueItems": True,
    "description": "The ids of roles.",
}
DECLARED: Mapping[str, Any] = {
    "org_id": {"type": "string", "required": True, "maxLength": 256},
    "user_id": {"type": "string", "required": True, "maxLength": 256},
    "roles": ROLE_IDS,
}


class MembersService(EntityService):
    """Memberships `{_id, org_id, user_id, roles: [role id, ...]}`. A patch gives other roles.

    A user's id may be `key:<id>`, that of an API key: then the key may act in the organization (TK-14).
    """

    def __init__(self, isolation: Isolation, entities: Entities, directory: Directory) -> None:
        super().__init__(isolation, MEMBERS, DECLARED, fixed=("org_id", "user_id"))
        self._entities = entities
        self._directory = directory
        self._isolation_of = isolation

    def hooks(self, *, nested: bool = False) -> HooksByKind:
        """The service's hooks; `nested` for the path `organizations/:org/members`."""
        hooks = entity_hooks(
            self,
            unique="membership",
            create=[self._check_new],
            patch=[self._check_patch],
        )
        if nested:
            confine = within(self._entities, ORGANIZATIONS, "org", "org_id")
            before: Any = hooks["before"]
            before["all"] = [confine, *before["all"]]
        return hooks

    async def patch(self, id: Any, data: Any, params: Params) -> Record:
        """Gives a member other roles.

        Raises:
            Conflict: he is the last who administers the organization, and would not any more.
        """

        async def write() -> Record:
            old = await self._entities.get(params.tenant, MEMBERS, id)
            changed = await super(MembersService, self).patch(id, data, params)
            await self._keep_admin(params, old or {}, changed)
            return changed

        return await self._entities.transaction(params.tenant, write)

    async def remove(self, id: Any, params: Params) -> Record:
        """Ends a membership, and the roles that were given in it.

        Raises:
            Conflict: he is the last who administers the organization.
        """
        tenant = params.tenant

        async def erase() -> Record:
            removed: Any = await super(MembersService, self).remove(id, params)
            chosen = {"user_id": removed["user_id"], "org_id": removed["org_id"]}
            await self._entities.of(tenant, USER_ROLES).delete_many(chosen)
            await self._keep_admin(params, removed, {})
            return dict(removed)

        return await self._entities.transaction(tenant, erase)

    async def _check_new(self, context: HookContext) -> None:
        """Before create: organization, user and roles are there, and the caller has what he gives."""
        data, tenant = context.data, context.tenant
        await required(self._entities, tenant, ORGANIZATIONS, data["org_id"])
        if not await self._is_somebody(context.params, data["user_id"]):
            raise BadRequest(f"There is no user '{data['user_id'][:64]}'")
        roles = await check_roles(self._entities, context.params, data.get("roles", ()))
        context.data = {**data, "roles": roles}

    async def _check_patch(self, context: HookContext) -> None:
        """Before patch: the same for the roles that it gives."""
        if isinstance(context.data, dict) and "roles" in context.data:
            roles = await check_roles(self._entities, context.params, context.data["roles"])
            context.data = {**context.data, "roles": roles}

    async def _is_somebody(self, params: Params, user_id: str) -> bool:
        if user_id.startswith(KEY_PRINCIPAL):
            keys = self._isolation_of.collection(params.tenant, API_KEYS)
            return await keys.count({"_id": user_id.removeprefix(KEY_PRINCIPAL) or "none"}) > 0
        return await self._directory.show(params, user_id) is not None

    async def _keep_admin(self, params: Params, old: Record, new: Record) -> None:
        """Inside the write's transaction: whoever stops to administer an organization is not the last who does."""
        if params.provider is None:
            return
        tenant, admins = params.tenant, await admin_roles(self._entities, params.tenant)
        if set(admins).isdisjoint(old.get("roles", ())) or not set(admins).isdisjoint(new.get("roles", ())):
            return
        # The organization is written too, so that of two such writes at once one fails, and is done again after the other.
        await self._entities.change(tenant, ORGANIZATIONS, {"_id": old["org_id"]}, {})
        if not await self._entities.of(tenant, MEMBERS).count({"org_id": old["org_id"], "roles": {"$in": admins}}):
            raise Conflict("An organization keeps its last administrator: name another first", {"reason": "LastAdmin"})


async def admin_roles(entities: Entities, tenant: Tenant) -> list[str]:
    """The ids of the roles that administer: those that hold the bundle `tenant:admin`."""
    holding = {"rs_identifier": MANAGEMENT_SERVER, "permission": TENANT_ADMIN}
    return [triple["role_id"] for triple in await entities.find(tenant, ROLE_PERMISSIONS, holding)]
