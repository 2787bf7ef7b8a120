"""The entity services under their paths, for all tenants alike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from hooks.context import HookContext
from services.accounts.letters import Letters
from services.accounts.tokens import AccountTokens
from services.application import Application
from services.audience import Audience
from services.authentication.directory import Directory
from services.entities import clients, invitations, members, organizations, resource_servers, roles, user_roles
from services.entities.records import Entities
from services.entities.registry import MEMBERS, ORGANIZATIONS, USER_ROLES
from services.errands import Errands
from services.isolation import Isolation


def offer_entities(
    app: Application,
    isolation: Isolation,
    entities: Entities,
    directory: Directory,
    *,
    tokens: AccountTokens,
    letters: Letters,
    errands: Errands,
) -> None:
    """Registers `organizations members invitations roles permissions user-roles resource-servers clients`."""
    groups = organizations.OrganizationsService(isolation, entities)
    offered = app.use(
        ORGANIZATIONS.paths[0],
        groups,
        methods=organizations.METHODS,
        rules=organizations.RULES,
        hooks=groups.hooks(),
    )
    # Everybody may ask for organizations and is shown his own; of what happens to them only those hear who may read all.
    offered.audience = Audience(organizations.HEARING)
    for path in ("members", "organizations/:org/members"):
        belonging = members.MembersService(isolation, entities, directory)
        app.use(
            path,
            belonging,
            methods=members.METHODS,
            rules=members.RULES,
            hooks=belonging.hooks(nested=":" in path),
        )
    invited = invitations.InvitationsService(isolation, entities, tokens, letters, errands)
    app.use("invitations", invited, methods=invitations.METHODS, rules=invitations.RULES, hooks=invited.hooks())
    kinds = roles.RolesService(isolation, entities)
    app.use("roles", kinds, rules=roles.RULES, hooks=kinds.hooks())
    allowed = roles.PermissionsService(isolation, entities)
    app.use(
        "roles/:role/permissions",
        allowed,
        methods=roles.PERMISSION_METHODS,
        rules=roles.PERMISSION_RULES,
        hooks=allowed.hooks(),
    )
    given = user_roles.UserRolesService(isolation, entities, directory)
    app.use("user-roles", given, methods=user_roles.METHODS, rules=user_roles.RULES, hooks=given.hooks())
    servers = resource_servers.ResourceServersService(isolation, entities)
    app.use("resource-servers", servers, rules=resource_servers.RULES, hooks=servers.hooks())
    app.service("users").add_hooks({"after": {"remove": [_forget_user(entities)]}})
    pages = clients.ClientsService(isolation)
    app.use("clients", pages, rules=clients.RULES, hooks=pages.hooks())


def _forget_user(entities: Entities) -> Callable[[HookContext], Awaitable[None]]:
    """An after hook: with a user go his memberships and roles."""

    async def forget(context: HookContext) -> None:
        removed = context.result if isinstance(context.result, list) else [context.result]
        for user in removed:
            for entity in (MEMBERS, USER_ROLES):
                await entities.of(context.tenant, entity).delete_many({"user_id": str(user["_id"])})

    return forget
