"""`migrate`: every app's database is brought to the schema of this version."""

from __future__ import annotations

from typing import Annotated

import typer

from server.backend import StartError, open_backend
from server.cli.command import Data, run
from server.settings import Settings
from services.control.migrations import AT_ONCE, Migrations


def migrate(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")] = False,
    canary: Annotated[list[str] | None, typer.Option(help="An app to begin with; may be given again.")] = None,
    at_once: Annotated[int, typer.Option(min=1, max=64, help="Apps that are migrated at a time.")] = AT_ONCE,
    data: Data = None,
) -> None:
    """Bring every app's database to the schema of this version: collections, validators, indexes and migrations."""
    run(lambda settings: _migrate(settings, canary or [], at_once, dry_run=dry_run), data=data)


async def _migrate(settings: Settings, canaries: list[str], at_once: int, *, dry_run: bool) -> None:
    async with open_backend(settings) as backend:
        migrations = Migrations(backend.deployment, backend.tenants, database=settings.database)
        report = await migrations.run(canaries=canaries, at_once=at_once, dry_run=dry_run)
    for id, names in report.done.items():
        typer.echo(f"{id}: {', '.join(names) or 'nothing to migrate'}")
    for id, state in report.skipped.items():
        typer.echo(f"{id}: left out, it is {state}")
    for id, message in report.failed.items():
        typer.echo(f"{id}: failed: {message}", err=True)
    if report.failed:
        stopped = "; no further app was begun" if report.is_stopped else ""
        raise StartError(f"{len(report.failed)} apps could not be migrated{stopped}: run it again when it is mended")
