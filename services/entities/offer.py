"""The entity services under their paths, for all tenants alike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from hooks.context import HookContext
from services.accounts.letters import Letters
from services.accounts.tokens import AccountTokens
from services.application import Application
from services.audience import Audience
from services.authentication.directory import Directory
from services.entities import (
    clients,
    connections,
    invitations,
    members,
    organizations,
    resource_servers,
    roles,
    user_roles,
)
from services.entities.records import Entities
from services.entities.registry import MEMBERS, ORGANIZATIONS, USER_ROLES
from services.errands import Errands
from services.isolation import Isolation
from services.registration import Registration

Follow = Callable[[str, str | None], Awaitable[None]]
"""Told, with a tenant's id, of each user whose rights have changed, or with None that what roles allow has."""
_GRANTING = {
    "members": ("created", "patched", "removed"),
    "user-roles": ("created", "removed"),
    "roles": ("removed",),
    "roles/:role/permissions": ("created", "removed"),
    "resource-servers": ("updated", "patched", "removed"),
    "organizations": ("removed",),
}
"""The events of which live logins hear before the answer comes; of what other processes do they hear a moment later."""


def offer_entities(
    app: Application,
    isolation: Isolation,
    entities: Entities,
    directory: Directory,
    *,
    tokens: AccountTokens,
    letters: Letters,
    errands: Errands,
    follow: Follow,
    vault: connections.Vault,
) -> None:
    """Registers the services of all entities but the settings; `vault` keeps the secrets of connections."""
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
    for path in MEMBERS.paths:
        belonging = members.MembersService(isolation, entities, directory)
        app.use(
            path,
            belonging,
            methods=members.METHODS,
            rules=members.RULES,
            hooks=belonging.hooks(nested=":" in path),
        )
    app.service(MEMBERS.paths[1]).add_hooks({"after": {"all": [_tell_as(app.service(MEMBERS.paths[0]))]}})
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
    for path, events in _GRANTING.items():
        for event in events:
            app.service(path).on(event, _tell(follow))
    app.service("users").add_hooks({"after": {"remove": [_forget_user(entities)]}})
    ways = connections.ConnectionsService(isolation, entities, vault)
    app.use("connections", ways, rules=connections.RULES, hooks=ways.hooks())
    decorated = connections.ConnectionOverridesService(isolation, entities)
    app.use("connection-overrides", decorated, rules=connections.RULES, hooks=decorated.hooks())
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


def _tell(follow: Follow) -> Callable[[Any, HookContext], Awaitable[None]]:
    async def tell(record: Any, context: HookContext) -> None:
        await follow(context.tenant.id, record.get("user_id"))

    return tell


def _tell_as(other: Registration) -> Callable[[HookContext], Awaitable[None]]:
    """An after hook: events of a nested path are those of the service itself, so that clients listen in one place."""

    async def tell(context: HookContext) -> None:
        if context.event is not None:
            event, context.event = context.event, None
            await other.emit(event, context.result, tenant=context.tenant)

    return tell
