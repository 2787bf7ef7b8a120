"""The command line's root, with the commands about the whole server."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Annotated

import structlog
import typer

from hooks.tenant import TENANT_ID
from server.backend import StartError
from server.cli.adoption import tenants
from server.cli.command import Data, assembled, loaded, run, tenant_of
from server.cli.keys import keys
from server.cli.migrate import migrate
from server.cli.secrets import secrets
from server.cli.sync import sync
from server.cli.tail import tail
from server.cli.users import users
from server.documents.typescript import typescript
from server.main import Roost
from server.settings import Settings
from services import declaration
from services.control.tenants import Change
from services.description import describe
from services.review import review

log = structlog.get_logger()

cli = typer.Typer(
    help="Roost: one realtime server for many apps. Every setting is also an environment variable, ROOST_<NAME>.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
cli.add_typer(tenants, name="tenants")
cli.add_typer(users, name="users")
cli.add_typer(keys, name="keys")
cli.add_typer(secrets, name="secrets")
cli.command()(migrate)
cli.add_typer(sync, name="sync")
cli.command()(tail)


@cli.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    data: Data = None,
    apply: Annotated[Path | None, typer.Option(help="Declarative file to apply before serving.")] = None,
) -> None:
    """Start the server; Ctrl-C or SIGTERM stops it."""
    run(lambda settings: _serve(settings, apply), host=host, port=port, data=data)


@cli.command()
def check(
    subject: Annotated[
        str | None, typer.Argument(metavar="[FILE|APP]", help="Declarative file, or an app, whose rules to review.")
    ] = None,
    data: Data = None,
) -> None:
    """Check the settings, the database, a declarative file, and what access rules let through; and change nothing."""
    app = subject if subject is not None and TENANT_ID.fullmatch(subject) and not Path(subject).exists() else None
    file = Path(subject) if subject is not None and app is None else None
    run(lambda settings: _check(settings, file, app), data=data)


@cli.command()
def apply(file: Annotated[Path, typer.Argument(help="Declarative file.")], data: Data = None) -> None:
    """Create and update the tenants and services of a declarative file; nothing is applied in part."""
    run(lambda settings: _apply(settings, file), data=data)


@cli.command("types")
def write_types(
    id: Annotated[str, typer.Argument(help="The appId.")],
    data: Data = None,
    out: Annotated[Path | None, typer.Option(help="File to write, such as types.d.ts, instead of printing.")] = None,
) -> None:
    """Print what an app's services take and return, as types for clients in TypeScript."""
    run(lambda settings: _types(settings, id, out), data=data)


async def _serve(settings: Settings, file: Path | None) -> None:
    declared = declaration.read(file) if file is not None else None
    roost = await Roost.start(settings, declared)
    signalled = roost.heed_signals()
    # What the start has made stays for good: the collector need not look at it again, which takes it 50 ms each time.
    gc.collect()
    gc.freeze()
    try:
        typer.echo(roost.welcome())
        await signalled.wait()
        log.info("stopping")
    finally:
        await roost.stop()


async def _check(settings: Settings, file: Path | None, app: str | None) -> None:
    declared = declaration.read(file) if file is not None else None
    async with loaded(settings) as roost:
        backend = roost.backend
        backend.check_placement()
        services = {tenant.id: tenant.services for tenant in declared.tenants} if declared is not None else {}
        if app is not None:
            services[app] = dict((await tenant_of(backend, app)).services)
        count = len([tenant async for tenant in backend.tenants.all() if not tenant.is_control_plane])
    for id, own in services.items():
        for remark in review(own):
            typer.echo(f"{id}: {remark}")
    typer.echo(f"All is well: MongoDB answers, {count} tenants.")


async def _apply(settings: Settings, file: Path) -> None:
    declared = declaration.read(file)
    async with assembled(settings) as roost:
        for change in await roost.backend.apply(declared):
            typer.echo(_describe(change))


async def _types(settings: Settings, id: str, out: Path | None) -> None:
    async with assembled(settings) as roost:
        text = typescript(describe(await tenant_of(roost.backend, id), roost.app))
    if out is None:
        typer.echo(text, nl=False)
    else:
        _write(out, text)


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StartError(f"{file}: cannot be written ({error.strerror})") from error


def _describe(change: Change) -> str:
    gone = f"; no longer served, data kept: {', '.join(change.withdrawn)}" if change.withdrawn else ""
    return f"{change.tenant}: {change.outcome}{gone}"
