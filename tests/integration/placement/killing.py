"""`tenants promote` in a process of its own, which kills itself with signal 9 at a chosen moment."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from server.main import Roost
from services.control.sagas import ORDER
from tests.integration.server.command import ROOT, environment

MOVED = "moved"
"""The app that is moved, unless a test has another."""
LEASE = 2.0
COMMANDS = 8
"""Database commands after which a process is killed `within` a step."""
WITHIN, AFTER = "within", "after"
"""Moments of a step: in the midst of its commands, and when it is done and that is not recorded yet."""
CHANGES = ("begin", "freeze", "flip", "open")
"""Changes of the catalogue right after which it is killed: those that a move makes on its way."""
KEPT, UNFORGOTTEN = "secret:kept", "secret:forgotten"
"""When a password has been made for the user of a database; and when it would be forgotten."""

COMMAND = f"""
import functools, os, signal, sys
from pymongo import monitoring
from services.control import operations, runner
from services.control.moves.copying import Pair
from services.control.moves.entry import Entries
from services.control.moves.tail import Tail
from services.control.sagas import Sagas, Step
from services.control.secrets import Secrets

operations.LEASE_MS = runner.LEASE_MS = 1000
moment, name = sys.argv.pop(1).split(":")
left = None


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


class Count(monitoring.CommandListener):
    def started(self, event):
        global left
        if left is not None:
            left -= 1
            if left == 0:
                die()

    def succeeded(self, event): ...
    def failed(self, event): ...


monitoring.register(Count())
known = Sagas.step


def step(self, kind, wanted):
    found = known(self, kind, wanted)
    if found is None or wanted != name:
        return found

    async def ensure(work):
        global left
        if moment == "{WITHIN}":
            left = {COMMANDS}
        await found.ensure(work)
        die()

    return Step(name, ensure)


def dying(real):
    @functools.wraps(real)
    async def do(*arguments):
        await real(*arguments)
        die()
    return do


if moment in ("{WITHIN}", "{AFTER}"):
    Sagas.step = step
elif moment == "change":
    setattr(Entries, name, dying(getattr(Entries, name)))
elif moment == "batch":
    Pair.copy = dying(Pair.copy)
elif moment == "mark":
    Tail._mark = dying(Tail._mark)
elif moment == "secret" and name == "kept":
    Secrets.put = dying(Secrets.put)
elif moment == "secret":
    Secrets.forget = die

from server.cli import cli
cli()
"""
"""The command as it is, but for a shorter lease, and for its death. `never:` lets it live."""


def moments(kind: str) -> tuple[str, ...]:
    """All at which the tests kill an operation of a kind: a step that is added there is among them by itself."""
    return tuple(f"{moment}:{step}" for step in ORDER[kind] for moment in (WITHIN, AFTER))


def env_of(roost: Roost, mongod: str) -> dict[str, str]:
    """The variables of another process of the same server."""
    assert roost.settings.clusters is not None
    clusters = roost.settings.clusters.get_secret_value()
    own = environment(mongod, roost.settings.database, ROOST_CLUSTERS=clusters, ROOST_NODE_LEASE=str(LEASE))
    return {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | own


@asynccontextmanager
async def command(
    roost: Roost, mongod: str, *arguments: str, dies: str = "never:", app_id: str = MOVED
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`tenants promote <app_id> ...` in a process of its own, which is ended with the block."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", COMMAND, dies, "tenants", "promote", app_id, *arguments),
        cwd=ROOT,
        env=env_of(roost, mongod),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def killed(roost: Roost, mongod: str, dies: str, *arguments: str, app_id: str = MOVED) -> None:
    """Runs the command until it kills itself: that it comes to the moment is certain."""
    async with asyncio.timeout(60), command(roost, mongod, *arguments, dies=dies, app_id=app_id) as process:
        out, err = await process.communicate()
    assert process.returncode == -signal.SIGKILL, (dies, out.decode(), err.decode())


async def go_on(roost: Roost, mongod: str, *how: str, app_id: str = MOVED) -> str:
    """Goes on or back by the command, until it is done: the lease of the one that was killed has to be over."""
    async with asyncio.timeout(60):
        while True:
            async with command(roost, mongod, *how, app_id=app_id) as process:
                out, err = await process.communicate()
                if process.returncode == 0:
                    return out.decode()
                assert process.returncode == 1, err.decode()
                assert "Another process" in err.decode(), err.decode()
