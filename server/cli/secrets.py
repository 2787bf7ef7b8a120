"""`secrets`: what an app's services elsewhere ask for."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from server.backend import StartError, open_backend
from server.cli.command import BY_OPERATOR, App, Data, run, tenant_of
from server.settings import Settings

secrets = typer.Typer(
    help="Keep what an app's services elsewhere ask for, such as client secrets.", no_args_is_help=True
)

SecretName = Annotated[str, typer.Argument(help="The secret's name, as the app's declaration speaks of it.")]


@secrets.command("set")
def set_secret(app: App, name: SecretName, data: Data = None) -> None:
    """Keep a secret, or replace it: the value is asked for, or read from standard input; running servers use it at once."""
    if sys.stdin.isatty():
        value = str(typer.prompt("Value", hide_input=True, confirmation_prompt=True))
    else:
        value = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    run(lambda settings: _set_secret(settings, app, name, value), data=data)


@secrets.command("list")
def list_secrets(app: App, data: Data = None) -> None:
    """List the names of an app's secrets, with version and date; values are never shown."""
    run(lambda settings: _list_secrets(settings, app), data=data)


@secrets.command("remove")
def remove_secret(app: App, name: SecretName, data: Data = None) -> None:
    """Delete a secret with all its versions."""
    run(lambda settings: _remove_secret(settings, app, name), data=data)


async def _set_secret(settings: Settings, app: str, name: str, value: str) -> None:
    async with open_backend(settings) as backend:
        tenant = await tenant_of(backend, app)
        version = await backend.secrets.put(tenant.id, name, value)
        backend.audit.add(tenant, "secret-set", subject=name, details={**BY_OPERATOR, "version": version})
    typer.echo(f"{app}: {name} is kept as version {version}")


async def _list_secrets(settings: Settings, app: str) -> None:
    async with open_backend(settings) as backend:
        tenant = await tenant_of(backend, app)
        for kept in await backend.secrets.names(tenant.id):
            typer.echo(f"{kept.name}\tversion {kept.version}\tsince {kept.created_at:%Y-%m-%d %H:%M:%S} UTC")


async def _remove_secret(settings: Settings, app: str, name: str) -> None:
    async with open_backend(settings) as backend:
        tenant = await tenant_of(backend, app)
        if not await backend.secrets.forget(tenant.id, name):
            raise StartError(f"The app '{app}' has no secret '{name}'")
        backend.audit.add(tenant, "secret-removed", subject=name, details=BY_OPERATOR)
    typer.echo(f"{app}: {name} is removed")
