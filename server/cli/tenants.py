"""`tenants`: the apps that are hosted."""

from __future__ import annotations

from typing import Annotated

import typer

from server.backend import open_backend
from server.cli.command import BY_OPERATOR, Data, run, tenant_of
from server.settings import Settings
from services import declaration
from services.declaration import TenantDeclaration

tenants = typer.Typer(help="Create, list and show the apps that are hosted.", no_args_is_help=True)


@tenants.command("create")
def create_tenant(
    id: Annotated[str, typer.Argument(help="The appId: 3 to 63 lower case letters, digits and inner hyphens.")],
    name: Annotated[str | None, typer.Option(help="Name for people.")] = None,
    origin: Annotated[list[str] | None, typer.Option(help="Allowed origin; may be given again.")] = None,
    data: Data = None,
) -> None:
    """Create an app without data services."""
    run(lambda settings: _create(settings, id, name, origin or []), data=data)


@tenants.command("list")
def list_tenants(data: Data = None) -> None:
    """List all apps."""
    run(_list, data=data)


@tenants.command("show")
def show_tenant(id: Annotated[str, typer.Argument(help="The appId.")], data: Data = None) -> None:
    """Show an app with its services."""
    run(lambda settings: _show(settings, id), data=data)


async def _create(settings: Settings, id: str, name: str | None, origins: list[str]) -> None:
    declared = _declare(id, name, origins)
    async with open_backend(settings) as backend:
        tenant = await backend.tenants.create(declared)
        backend.audit.add(tenant, "app-created", subject=tenant.id, details=BY_OPERATOR)
    typer.echo(f"{id}: created")


async def _list(settings: Settings) -> None:
    async with open_backend(settings) as backend:
        async for tenant in backend.tenants.all():
            typer.echo(f"{tenant.id}\t{tenant.status}\t{tenant.name}\t{len(tenant.services)} services")


async def _show(settings: Settings, id: str) -> None:
    async with open_backend(settings) as backend:
        tenant = await tenant_of(backend, id)
    typer.echo(f"id:       {tenant.id}\nname:     {tenant.name}\nstatus:   {tenant.status}\nepoch:    {tenant.epoch}")
    typer.echo(f"login by: {tenant.auth.username_field}\norigins:  {', '.join(sorted(tenant.allowed_origins)) or '-'}")
    for path, service in tenant.services.items():
        rules = ", ".join(f"{method}: {rule}" for method, rule in service.rules.items()) or "nobody"
        typer.echo(f"service:  {path} ({rules})")


def _declare(id: str, name: str | None, origins: list[str]) -> TenantDeclaration:
    return declaration.check({"tenants": [{"id": id, "name": name, "allowed_origins": origins}]}).tenants[0]
