"""`keys`: the keys that sign an app's access tokens."""

from __future__ import annotations

from typing import Annotated

import typer

from server.backend import open_backend
from server.cli.command import BY_OPERATOR, App, Data, run, tenant_of
from server.settings import Settings

keys = typer.Typer(help="Replace and list the keys that sign an app's access tokens.", no_args_is_help=True)


@keys.command("rotate")
def rotate_keys(
    app: App,
    overlap: Annotated[
        float, typer.Option(min=0, help="Seconds for which tokens that older keys have signed are still accepted.")
    ] = 86_400,
    data: Data = None,
) -> None:
    """Make a new signing key; with --overlap 0 everybody has to log in again at once."""
    run(lambda settings: _rotate(settings, app, overlap), data=data)


@keys.command("list")
def list_keys(app: App, data: Data = None) -> None:
    """List an app's signing keys, the oldest first."""
    run(lambda settings: _list_keys(settings, app), data=data)


async def _rotate(settings: Settings, app: str, overlap: float) -> None:
    async with open_backend(settings) as backend:
        tenant = await tenant_of(backend, app)
        record = await backend.keys.rotate(tenant.id, overlap)
        # Only now: a server that looks at the tenant again has to find the keys as they are.
        await backend.tenants.touch(tenant.id)
        details = {**BY_OPERATOR, "overlap": overlap}
        backend.audit.add(tenant, "keys-rotated", subject=record.kid, details=details)
    typer.echo(f"{app}: {record.kid} signs from now on; older keys are accepted for {overlap:g} s")


async def _list_keys(settings: Settings, app: str) -> None:
    async with open_backend(settings) as backend:
        tenant = await tenant_of(backend, app)
        for record in await backend.keys.records(tenant.id):
            retires = f"until {record.retires_at:%Y-%m-%d %H:%M:%S} UTC" if record.retires_at else "no end"
            typer.echo(f"{record.kid}\t{record.state}\tsince {record.created_at:%Y-%m-%d %H:%M:%S} UTC\t{retires}")
