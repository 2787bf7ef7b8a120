"""`tenants adopt`: an application that had a database for itself becomes an app."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from hooks.tenant import Tenant
from server.backend import StartError
from server.cli.backup import tenants
from server.cli.command import BY_OPERATOR, Data, assembled, run, tenant_of
from server.main import Roost
from server.settings import Settings
from services.control.adoption import Adoption
from services.control.trial import try_services
from services.database.tripwire import Tripwire

__all__ = ["tenants"]


@tenants.command("adopt")
def adopt(
    app: Annotated[str, typer.Option("--as", metavar="APP", help="The app, which is there already.")],
    database: Annotated[str, typer.Option(metavar="NAME", help="The database to copy from; it is only read.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check what is there, and copy nothing.")] = False,
    reverse: Annotated[bool, typer.Option("--reverse", help="Delete the copies of what is still there.")] = False,
    data: Data = None,
) -> None:
    """Copy the collections of an application without tenants into an app; done again, it goes on where it ended.

    Indexes come first. At the end the app's services are tried: if a command reaches the database that is not tied to the app,
    the exit code is 1. The source cannot be the database of Roost itself: an id cannot be changed where it is, and without the
    originals nothing could be taken back. Name another database for Roost by ROOST_DATABASE.
    """
    run(lambda settings: _adopt(settings, app, database, dry_run=dry_run, reverse=reverse), data=data)


async def _adopt(settings: Settings, app: str, database: str, *, dry_run: bool, reverse: bool) -> None:
    wire = Tripwire()
    async with assembled(settings, [wire]) as roost:
        tenant = await tenant_of(roost.backend, app)
        backend = roost.backend
        adoption = Adoption(backend.deployment, backend.placements, backend.writes, source=database)
        names = await adoption.check(tenant)
        if not dry_run and not reverse:
            await roost.backend.tenants.prepare_collections(tenant)
        for name in names:
            if dry_run:
                typer.echo(f"{app}: {name} can be adopted")
                continue
            done = await (adoption.take_back if reverse else adoption.adopt)(tenant, name)
            typer.echo(f"{app}: {name}\t{done.found} found\t{done.changed} {'deleted' if reverse else 'copied'}")
        if not dry_run:
            details = {**BY_OPERATOR, "reverse": reverse}
            roost.backend.audit.add(tenant, "app-adopted", subject=database, details=details)
            await roost.backend.audit.settled()
        if not dry_run and not reverse:
            await _try(roost, tenant, names, wire)


async def _try(roost: Roost, tenant: Tenant, adopted: Sequence[str], wire: Tripwire) -> None:
    """Calls the app's services, and reports what reached the database (CO-6).

    Raises:
        StartError: commands that were not tied to the app.
    """
    kept = {declared.collection or path for path, declared in tenant.services.items()}
    for name in sorted({*adopted} - kept):
        typer.echo(f"{tenant.id}: {name} has no service: declare one, and run this again to have it tried", err=True)
    wire.reset()
    tried = await try_services(roost.app, tenant)
    typer.echo(f"{tenant.id}: {len(tried)} services tried\t{wire.seen} commands\t{len(wire.violations)} unscoped")
    if wire.violations:
        raise StartError("\n".join(["Not tied to the app:", *dict.fromkeys(wire.violations)]))
