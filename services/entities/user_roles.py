"""The user-roles service: roles that users have everywhere, or in one organization besides those of their membership."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hooks.context import HookContext, Record
from hooks.errors import BadRequest
from hooks.rules import Rule
from services.authentication.directory import Directory
from services.entities.giving import check_roles
from services.entities.members import MOST_ROLES
from services.entities.records import Entities
from services.entities.registry import GLOBAL, MEMBERS, USER_ROLES
from services.entities.service import EntityService, entity_hooks
from services.isolation import Isolation
from services.registration import HooksByKind

RULES: Mapping[str, Rule] = {
    "find": {"any": [{"permission": "read:users"}, {"permission": "update:users"}]},
    "get": {"any": [{"permission": "read:users"}, {"permission": "update:users"}]},
    "create": {"permission": "update:users"},
    "remove": {"permission": "update:users"},
}
METHODS: Final = ("find", "create", "remove")
DECLARED: Mapping[str, Any] = {
    "user_id": {"type": "string", "required": True, "maxLength": 256},
    "org_id": {"type": ["string", "null"], "maxLength": 256, "description": "Null: not in an organization."},
    "role_id": {"type": "string", "required": True, "maxLength": 256},
}


class UserRolesService(EntityService):
    """Roles of users `{_id, user_id, org_id, role_id}`. An `org_id` of null is kept, and asked by, as an empty text."""

    def __init__(self, isolation: Isolation, entities: Entities, directory: Directory) -> None:
        super().__init__(isolation, USER_ROLES, DECLARED)
        self._entities = entities
        self._directory = directory

    def hooks(self) -> HooksByKind:
        """The service's hooks."""
        hooks = entity_hooks(self, unique="role of the user", create=[self._check_new])
        before: Any = hooks["before"]
        # An empty text in a query string means the role that is not given in an organization, and not null.
        before["all"] = []
        return hooks

    async def _check_new(self, context: HookContext) -> None:
        """Before create: user and role are there, in an organization he is a member, and the caller has what he gives."""
        data = context.data
        record: Record = {**data, "org_id": data.get("org_id") or GLOBAL}
        held = {"user_id": data["user_id"], "org_id": record["org_id"]}
        if await self._entities.of(context.tenant, USER_ROLES).count(held) >= MOST_ROLES:
            raise BadRequest(f"A user has at most {MOST_ROLES} roles in one place")
        await check_roles(self._entities, context.params, [data["role_id"]])
        if record["org_id"] != GLOBAL:
            place = {"org_id": record["org_id"], "user_id": data["user_id"]}
            if await self._entities.first(context.tenant, MEMBERS, place) is None:
                raise BadRequest("The user is no member of this organization")
        elif await self._directory.show(context.params, data["user_id"]) is None:
            raise BadRequest(f"There is no user '{data['user_id'][:64]}'")
        context.data = record
