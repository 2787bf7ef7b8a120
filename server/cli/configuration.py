"""`tenants set` and `tenants public-keys`: the configuration of an app, changed while it is served."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from hooks.errors import BadRequest
from server.backend import StartError, open_backend
from server.cli.command import BY_OPERATOR, Data, assembled, run, tenant_of
from server.cli.tenants import tenants
from server.settings import Settings

__all__ = ["tenants"]

App = Annotated[str, typer.Argument(help="The appId.")]


@tenants.command("set")
def set_configuration(
    app: App,
    key: Annotated[
        str,
        typer.Argument(
            help="is_active, allowed_origins, require_origin, limits, plan, region, sync_exclude, inheritance or providers."
        ),
    ],
    value: Annotated[str, typer.Argument(help="Its value: JSON, or else a text.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the change, and change nothing.")] = False,
    data: Data = None,
) -> None:
    """Change the configuration of an app; running servers take it up within seconds."""
    run(lambda settings: _set(settings, app, key, value, dry_run=dry_run), data=data)


@tenants.command("public-keys")
def show_public_keys(
    app: App,
    rotate: Annotated[bool, typer.Option("--rotate", help="Make a new one; the one before stays valid.")] = False,
    data: Data = None,
) -> None:
    """List the public keys of an app, the newest first."""
    run(lambda settings: _public_keys(settings, app, rotate=rotate), data=data)


async def _set(settings: Settings, app: str, key: str, value: str, *, dry_run: bool) -> None:
    try:
        plain = json.loads(value)
    except ValueError:
        plain = value
    # Which drivers of providers there are, plug-ins have a say in.
    async with assembled(settings) as roost:
        backend = roost.backend
        try:
            changed = await backend.configuration.change(app, {key: plain}, dry_run=dry_run)
        except BadRequest as error:
            faults = "\n".join(f"  {fault['path']}: {fault['message']}" for fault in error.errors or ())
            raise StartError(f"{error.message}; nothing was changed:\n{faults}") from error
        if dry_run and key == "providers":
            for kind, provider in changed.after.providers.items():
                await backend.providers.probe(kind, changed.after, provider, None)
        if changed.keys and not dry_run:
            details = {**BY_OPERATOR, "changed": [*changed.keys]}
            backend.audit.add(changed.after, "app-configured", subject=app, details=details)
    outcome = "unchanged" if not changed.keys else "would be changed" if dry_run else "changed"
    typer.echo(f"{app}: {key} {outcome}")


async def _public_keys(settings: Settings, app: str, *, rotate: bool) -> None:
    async with open_backend(settings) as backend:
        await backend.tenants.prepare_catalogue()
        tenant = await tenant_of(backend, app)
        keys = tenant.public_keys
        if rotate:
            keys = await backend.configuration.rotate_public_key(app)
            backend.audit.add(tenant, "public-key-rotated", subject=keys[0], details=BY_OPERATOR)
    for key in keys:
        typer.echo(key)
