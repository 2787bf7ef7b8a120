"""What every command does: takes the settings, runs, and turns what a person can mend into a sentence."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
import uvloop

from hooks.errors import FeathersError
from hooks.tenant import Tenant
from server import logs
from server.backend import Backend, StartError, open_backend
from server.composition import compose
from server.main import Roost
from server.modules import configure
from server.settings import Settings, SettingsError, load
from services.declaration import DeclarationError

BY_OPERATOR = {"by": "operator"}
"""In entries of audit logs: whoever runs commands on the server."""

LEAVE = 3.0
"""Seconds that tasks have to end when a command has ended."""

App = Annotated[str, typer.Argument(help="The appId.")]
Data = Annotated[Path | None, typer.Option("--data", help="Directory of the embedded MongoDB and development keys.")]

log = structlog.get_logger()


@contextlib.asynccontextmanager
async def loaded(settings: Settings, listeners: Sequence[Any] = ()) -> AsyncIterator[Roost]:
    """A server with its plug-ins, over a database that is left as it is. `listeners` hear of every database command."""
    async with contextlib.AsyncExitStack() as stack:
        backend = await stack.enter_async_context(open_backend(settings, listeners))
        roost = Roost(backend, stack)
        stack.callback(roost.people.passwords.close)
        for module in settings.modules:
            await configure(roost.app, module)
        compose(roost.app, backend)
        yield roost


@contextlib.asynccontextmanager
async def assembled(settings: Settings, listeners: Sequence[Any] = ()) -> AsyncIterator[Roost]:
    """The same with its control plane: for commands that do what services do."""
    async with loaded(settings, listeners) as roost:
        await roost.backend.found()
        yield roost


async def tenant_of(backend: Backend, id: str) -> Tenant:
    """The tenant that a command names.

    Raises:
        StartError: there is none.
    """
    tenant = await backend.tenants.get(id)
    if tenant is None:
        raise StartError(f"There is no tenant '{id}'")
    return tenant


def run(command: Callable[[Settings], Coroutine[Any, Any, None]], **overrides: Any) -> None:
    """Runs a command with the settings; what a person can mend is a sentence on standard error and exit code 1."""
    try:
        settings = load(overrides)
        logs.configure(settings.log_level, settings.log_format)
        with contextlib.suppress(KeyboardInterrupt):
            uvloop.run(_to_its_end(command(settings)))
    except DeclarationError as error:
        _fail("The declarative file has mistakes; nothing was applied:\n" + "\n".join(f"  {m}" for m in error.mistakes))
    except (SettingsError, StartError) as error:
        _fail(str(error))
    except FeathersError as error:
        _fail(error.message)


async def _to_its_end(command: Coroutine[Any, Any, None]) -> None:
    """Runs a command. What a plug-in has begun and does not end when it is cancelled ends with the process, unawaited."""
    code = 1
    try:
        await command
        code = 0
    finally:
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        late = (await asyncio.wait(rest, timeout=LEAVE))[1] if rest else set()
        if late:
            log.error("tasks do not end", names=sorted(task.get_name() for task in late))
            sys.stdout.flush()
            os._exit(code)


def _fail(message: str) -> None:
    typer.echo(message, err=True)
    sys.exit(1)
