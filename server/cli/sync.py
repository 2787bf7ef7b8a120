"""`sync`: what the control plane has, copied into the apps."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

import typer

from server.backend import Backend, StartError, open_backend
from server.cli.command import Data, run
from server.settings import Settings
from services.control.sync.state import Status

sync = typer.Typer(help="See and mend the copies that apps have of the control plane.", no_args_is_help=True)

Target = Annotated[str | None, typer.Option("--app", help="One app, by its appId.")]
Everybody = Annotated[bool, typer.Option("--all", help="All apps.")]


@sync.command("status")
def show_status(app: Target = None, every: Everybody = False, data: Data = None) -> None:
    """Show where the copies stand, and what is not as it should be."""
    run(lambda settings: _status(settings, _chosen(app, every)), data=data)


@sync.command("run")
def run_sync(
    app: Target = None,
    every: Everybody = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be done, and change nothing.")] = False,
    data: Data = None,
) -> None:
    """Compare one app, or all of them, with the control plane, and mend what is different."""
    if app is None and not every:
        raise typer.BadParameter("name an app by --app, or all of them by --all")
    run(lambda settings: _run(settings, _chosen(app, every), dry_run), data=data)


async def _status(settings: Settings, app: str | None) -> None:
    chosen = {} if app is None else {"target": app}
    async with open_backend(settings) as backend:
        state = backend.sync.state
        for status in Status:
            if count := await state.count({**chosen, "status": status}):
                typer.echo(f"{status}\t{count}")
        wrong = {"$in": [Status.CONFLICT, Status.DEFERRED, Status.PENDING, Status.FAILED]}
        for row in await state.find({**chosen, "status": wrong}, limit=100):
            typer.echo(f"{row['target']}\t{row['entity']}\t{row['source_id']}\t{row['status']}\t{row.get('error', '')}")


async def _run(settings: Settings, app: str | None, dry_run: bool) -> None:
    async with open_backend(settings) as backend:
        await backend.found()
        counts, failed = await _compare(backend, app, dry_run)
    for what, often in sorted(counts.items()):
        typer.echo(f"{what}\t{often}")
    if failed:
        raise StartError(f"{failed} apps could not be looked at: run it again")


async def _compare(backend: Backend, app: str | None, dry_run: bool) -> tuple[dict[str, int], int]:
    if app is None:
        begun = await backend.sync.runs.begin(f"run-{uuid.uuid4().hex}", dry_run=dry_run)
        done: Any = await backend.sync.runs.work(begun["_id"])
        return done["counts"], done["failed"]
    target = await backend.sync.targets.get(app)
    if target is None:
        raise StartError(f"There is no app '{app}'")
    return (await backend.sync.runs.one(target, dry_run=dry_run)).counts, 0


def _chosen(app: str | None, every: bool) -> str | None:
    if app is not None and every:
        raise typer.BadParameter("either --app or --all")
    return app
