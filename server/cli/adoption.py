"""`tenants adopt`: an application that had a database for itself becomes an app."""

from __future__ import annotations

from typing import Annotated

import typer

from server.cli.backup import tenants
from server.cli.command import BY_OPERATOR, Data, assembled, run, tenant_of
from server.settings import Settings
from services.control.adoption import Adoption

__all__ = ["tenants"]


@tenants.command("adopt")
def adopt(
    app: Annotated[str, typer.Option("--as", metavar="APP", help="The app, which is there already.")],
    database: Annotated[str, typer.Option(metavar="NAME", help="The database to copy from; it is only read.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check what is there, and copy nothing.")] = False,
    reverse: Annotated[bool, typer.Option("--reverse", help="Delete the copies of what is still there.")] = False,
    data: Data = None,
) -> None:
    """Copy the collections of an application without tenants into an app; done again, it goes on where it ended."""
    run(lambda settings: _adopt(settings, app, database, dry_run=dry_run, reverse=reverse), data=data)


async def _adopt(settings: Settings, app: str, database: str, *, dry_run: bool, reverse: bool) -> None:
    async with assembled(settings) as roost:
        tenant = await tenant_of(roost.backend, app)
        adoption = Adoption(roost.backend.deployment, source=database)
        for name in await adoption.check(tenant):
            if dry_run:
                typer.echo(f"{app}: {name} can be adopted")
                continue
            done = await (adoption.take_back if reverse else adoption.adopt)(tenant, name)
            typer.echo(f"{app}: {name}\t{done.found} found\t{done.changed} {'deleted' if reverse else 'copied'}")
        if not dry_run:
            details = {**BY_OPERATOR, "reverse": reverse}
            roost.backend.audit.add(tenant, "app-adopted", subject=database, details=details)
