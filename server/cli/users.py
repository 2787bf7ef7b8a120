"""`users`: what an operator does for the users of an app."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from server.backend import open_backend
from server.cli.command import BY_OPERATOR, App, Data, run, tenant_of
from server.settings import Settings
from services.users import assign, grant

users = typer.Typer(help="Give users permissions and other fields that access rules ask for.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The user's name.")]
Permission = Annotated[str, typer.Argument(help="The permission; 'admin' manages API keys.")]


@users.command("grant")
def grant_permission(app: App, name: Name, permission: Permission, data: Data = None) -> None:
    """Give a user a permission."""
    run(lambda settings: _grant(settings, app, name, permission), data=data)


@users.command("withdraw")
def withdraw_permission(app: App, name: Name, permission: Permission, data: Data = None) -> None:
    """Take a permission from a user."""
    run(lambda settings: _grant(settings, app, name, permission, withdraw=True), data=data)


@users.command("set")
def set_field(
    app: App,
    name: Name,
    field: Annotated[str, typer.Argument(help="The field, such as one that access rules ask for.")],
    value: Annotated[str, typer.Argument(help="Its value: JSON, or else a text; null takes the field away.")],
    data: Data = None,
) -> None:
    """Set a field of a user, such as the organization: what access rules ask for, clients cannot write."""
    run(lambda settings: _set(settings, app, name, field, value), data=data)


async def _grant(settings: Settings, app: str, name: str, permission: str, *, withdraw: bool = False) -> None:
    async with open_backend(settings) as backend:
        tenant = await tenant_of(backend, app)
        found = await grant(backend.isolation, tenant, name, permission, withdraw=withdraw)
        event = "permission-withdrawn" if withdraw else "permission-granted"
        details = {**BY_OPERATOR, "permission": permission}
        backend.audit.add(tenant, event, subject=str(found["_id"]), details=details)
    typer.echo(f"{name}: {', '.join(found.get('permissions', [])) or 'no permissions'}")


async def _set(settings: Settings, app: str, name: str, field: str, value: str) -> None:
    try:
        plain = json.loads(value)
    except ValueError:
        plain = value
    async with open_backend(settings) as backend:
        tenant = await tenant_of(backend, app)
        found = await assign(backend.isolation, tenant, name, field, plain)
        details = {**BY_OPERATOR, "field": field}
        backend.audit.add(tenant, "user-changed", subject=str(found["_id"]), details=details)
    typer.echo(f"{name}: {field} is {json.dumps(found[field]) if field in found else 'not set'}")
