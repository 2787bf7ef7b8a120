"""`tenants promote`: an app's data is moved to another isolation model while the app goes on working."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from server.backend import Backend, StartError, open_backend
from server.cli.command import App, Data, run
from server.cli.configuration import tenants
from server.settings import Settings
from services.control.moves.moves import HEAVY, Destination, Moves
from services.control.operations import SUCCEEDED, Operation
from services.control.places import OWN_URI

__all__ = ["tenants"]

LOOK = 0.1
"""Seconds between two looks at an operation that another process works on."""


@tenants.command("promote")
def promote(  # noqa: PLR0917 - a command's options are its parameters
    app: App,
    to: Annotated[str | None, typer.Option(help="Isolation model: shared, database or cluster.")] = None,
    cluster: Annotated[str, typer.Option(help="For database: one of ROOST_CLUSTERS.")] = "default",
    credential: Annotated[
        str, typer.Option("--secret", help="For cluster: the name of the app's secret that holds its URI.")
    ] = OWN_URI,
    rate: Annotated[int, typer.Option(min=0, help="Records copied in a second, at most; 0 is no limit.")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look whether it can be done; change nothing.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a move that was interrupted.")] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Give a move up, or bring the data back.")] = False,
    finalize: Annotated[bool, typer.Option("--finalize", help="Delete what a move has left behind.")] = False,
    now: Annotated[bool, typer.Option("--now", help="With --finalize: before the day of retention is over.")] = False,
    data: Data = None,
) -> None:
    """Move an app's data to a database or cluster of its own, or back, while the app goes on working."""
    chosen = [name for name, given in (("resume", resume), ("rollback", rollback), ("finalize", finalize)) if given]
    if len(chosen) + (to is not None) != 1 or (dry_run and to is None):
        raise typer.BadParameter("give one of --to (with or without --dry-run), --resume, --rollback, --finalize")
    wanted = Destination(to or "", cluster, credential)
    if dry_run:
        run(lambda settings: _plan(settings, app, wanted), data=data)
        return
    begin: dict[str, Callable[[Moves], Awaitable[Operation | None]]] = {
        "resume": lambda moves: moves.resume(app),
        "rollback": lambda moves: moves.rollback(app),
        "finalize": lambda moves: moves.finalize(app, now=now),
        "to": lambda moves: moves.promote(app, wanted, rate=rate),
    }
    run(lambda settings: _move(settings, app, begin[chosen[0] if chosen else "to"]), data=data)


@tenants.command("weigh")
def weigh(
    above: Annotated[int, typer.Option(min=0, help="Records from which a move is proposed.")] = HEAVY,
    data: Data = None,
) -> None:
    """List apps by the weight of their data, and which of them had better have a database of their own."""
    run(lambda settings: _weigh(settings, above), data=data)


async def _weigh(settings: Settings, above: int) -> None:
    async with open_backend(settings, joins=False) as backend:
        for weighed in await backend.moves.weigh(above=above):
            proposal = "\tmove it: tenants promote" if weighed.is_proposed else ""
            weight = weighed.estimate
            typer.echo(f"{weighed.app_id}\t{weighed.model}\t{weight.documents} records\t{weight.bytes} bytes{proposal}")


async def _plan(settings: Settings, app: str, wanted: Destination) -> None:
    async with open_backend(settings, joins=False) as backend:
        target, weight = await backend.moves.plan(app, wanted)
    typer.echo(f"{app}: {weight.documents} records, some {weight.bytes} bytes, would move to {target.model}")
    for name, count in weight.collections.items():
        typer.echo(f"  {name}: {count}")


async def _move(settings: Settings, app: str, begin: Callable[[Moves], Awaitable[Operation | None]]) -> None:
    # It writes to the app's data only by the move itself, and nobody has to wait for it when it is killed.
    async with open_backend(settings, joins=False) as backend:
        backend.control.runner.on_progress(_Progress())
        operation = await begin(backend.moves)
        if operation is None:
            typer.echo(f"{app}: the move is given up; --finalize deletes what is left where the app is not")
            return
        ended = await _ended(backend, operation)
    if ended.state != SUCCEEDED:
        message = (ended.error or {}).get("message", ended.state)
        raise StartError(f"{app}: {message}. Go on with --resume, or give up with --rollback")
    switched = ended.notes.get("switched")
    if switched is not None:
        typer.echo(f"{app}: moved; writes stood still for {switched['pause']:.3f} s")
    elif "proof" in ended.notes:
        typer.echo(f"{app}: finalized; {ended.notes.get('purged', 0)} records deleted, none left")


async def _ended(backend: Backend, operation: Operation) -> Operation:
    """The operation when it is over, wherever it was worked on."""
    while operation.is_active:
        await asyncio.wait([backend.control.runner.work(operation.id)])
        operation = await backend.control.operations.get(operation.id) or operation
        if operation.is_active:
            await asyncio.sleep(LOOK)
    return operation


class _Progress:
    """Tells a person how far a move is."""

    def __init__(self) -> None:
        self._told = ""

    def __call__(self, operation: Operation) -> None:
        step = next((step["name"] for step in operation.steps if step["state"] == "running"), "")
        copied = sum(operation.notes.get("copied", {}).values())
        line = f"{step} ({copied} records copied)" if step == "copy" else step
        if step and line != self._told:
            self._told = line
            typer.echo(line)
