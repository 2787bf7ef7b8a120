"""`tenants export`, `import` and `clone`: one app in a file, out of it, and copied."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import yaml

from server.cli.command import BY_OPERATOR, App, Data, assembled, run, tenant_of
from server.cli.moves import tenants
from server.cli.placement import Cluster, Model, UriEnv, placement_of
from server.settings import Settings
from services.audit import COLLECTION as AUDIT_LOG
from services.control.backup.anonymise import Anonymiser, check_rules
from services.declaration import DeclarationError
from services.declaration.placement import PlacementDeclaration

__all__ = ["tenants"]

File = Annotated[Path, typer.Argument(help="The archive.")]
New = Annotated[str, typer.Option("--as", metavar="APP", help="The appId of the new app.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where it was interrupted.")]


@tenants.command("export")
def export_tenant(app: App, file: File, resume: Resume = False, data: Data = None) -> None:
    """Write an app with its users and data to a file; passwords stay hashed, secrets, keys and logins stay here."""
    run(lambda settings: _export(settings, app, file, resume=resume), data=data)


@tenants.command("import")
def import_tenant(  # noqa: PLR0917 - a command's options are its parameters
    file: File,
    new: New,
    resume: Resume = False,
    placement: Model = None,
    cluster: Cluster = None,
    uri_env: UriEnv = None,
    data: Data = None,
) -> None:
    """Make a new app of what is in an archive."""
    run(
        lambda settings: _import(settings, file, new, placement_of(new, placement, cluster, uri_env), resume=resume),
        data=data,
    )


@tenants.command("clone")
def clone_tenant(  # noqa: PLR0917 - a command's options are its parameters
    app: App,
    new: Annotated[str, typer.Argument(help="The appId of the new app.")],
    anonymise: Annotated[Path | None, typer.Option(help="A file that says what becomes of people's data.")] = None,
    placement: Model = None,
    cluster: Cluster = None,
    uri_env: UriEnv = None,
    data: Data = None,
) -> None:
    """Copy an app, to try things on; with --anonymise without the data of real people."""
    run(
        lambda settings: _clone(settings, app, new, anonymise, placement_of(new, placement, cluster, uri_env)),
        data=data,
    )


async def _export(settings: Settings, app: str, file: Path, *, resume: bool) -> None:
    async with assembled(settings) as roost:
        count = await roost.backend.backup.export(app, file, _tell, resume=resume)
        tenant = await tenant_of(roost.backend, app)
        roost.backend.audit.add(tenant, "app-exported", subject=app, details={**BY_OPERATOR, "documents": count})
    typer.echo(f"{app}: {count} documents are in {file}")


async def _import(
    settings: Settings, file: Path, new: str, placement: PlacementDeclaration | None, *, resume: bool
) -> None:
    async with assembled(settings) as roost:
        count = await roost.backend.backup.fill(file, new, _tell, resume=resume, placement=placement)
        tenant = await tenant_of(roost.backend, new)
        roost.backend.audit.add(tenant, "app-imported", subject=new, details={**BY_OPERATOR, "documents": count})
    typer.echo(f"{new}: {count} documents were imported")


async def _clone(
    settings: Settings, app: str, new: str, anonymise: Path | None, placement: PlacementDeclaration | None
) -> None:
    rules = {} if anonymise is None else check_rules(_read(anonymise))
    change = Anonymiser(rules)
    # Who did what from where is about real people all through, in words that no rule for a field finds.
    without = () if anonymise is None or AUDIT_LOG in rules else (AUDIT_LOG,)
    async with assembled(settings) as roost:
        count = await roost.backend.backup.clone(
            app, new, change, _tell, named=[*rules], without=without, placement=placement
        )
        for id, event in ((app, "app-cloned"), (new, "app-created")):
            tenant = await tenant_of(roost.backend, id)
            details = {**BY_OPERATOR, "source": app, "documents": count}
            roost.backend.audit.add(tenant, event, subject=new, details=details)
    for collection, field in sorted(change.unmet):
        typer.echo(f"warning: {collection}.{field} was in no document: nothing was changed by that rule", err=True)
    typer.echo(f"{new}: {count} documents were copied from {app}")


def _read(file: Path) -> object:
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DeclarationError([f"{file}: cannot be read"]) from error


def _tell(collection: str, count: int) -> None:
    typer.echo(f"  {collection}: {count}", err=True)
