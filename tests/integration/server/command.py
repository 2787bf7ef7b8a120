"""`python -m server` as a person runs it: in a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import server
from tests.support.placed import cluster_settings, default_model, placement
from tests.support.roost import COMMAND_PATH, MASTER_KEY

ROOT = Path(server.__file__).parents[1]
TIMEOUT = 30.0


def environment(uri: str | None, database: str, **settings: str) -> dict[str, str]:
    """The variables of a process whose data is in this database."""
    own = {"ROOST_DATABASE": database, "ROOST_LOG_FORMAT": "json", "ROOST_MONGO_PATH": COMMAND_PATH, **settings}
    if uri is not None:
        own = {"ROOST_MONGODB_URI": uri, "ROOST_MASTER_KEY": MASTER_KEY, **placing(), **own}
    return {name: value for name, value in own.items() if value}


def placing() -> dict[str, str]:
    """The variables by which a process places new apps as `--model` says, and finds those that are placed."""
    place = placement(default_model[0])
    if place is None:
        return {}
    clusters = cluster_settings()["clusters"].get_secret_value()
    own = {} if place.uri_env is None else {place.uri_env: os.environ[place.uri_env]}
    return {"ROOST_CLUSTERS": clusters, "ROOST_PLACEMENT": place.model_dump_json(exclude_none=True), **own}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


async def run(*arguments: str | Path, env: Mapping[str, str] | None = None, typed: str | None = None) -> Ended:
    """Runs a command to its end; `typed` is what comes by standard input."""
    process = await _spawn(arguments, env or {}, has_input=typed is not None)
    try:
        async with asyncio.timeout(TIMEOUT):
            out, err = await process.communicate(None if typed is None else typed.encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


@dataclass(slots=True)
class Server:
    """A served process."""

    process: asyncio.subprocess.Process
    url: str
    out: list[str] = field(default_factory=list)
    err: list[str] = field(default_factory=list)

    async def stop(self) -> int:
        """Sends SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(TIMEOUT):
            return await self.process.wait()


@asynccontextmanager
async def serving(*arguments: str | Path, env: Mapping[str, str]) -> AsyncIterator[Server]:
    """`serve` on a free port; it is ended with the block. All that it prints is kept."""
    process = await _spawn(("serve", "--port", "0", *arguments), env)
    served = Server(process, "")
    assert process.stdout is not None
    assert process.stderr is not None
    errors = asyncio.create_task(_keep(process.stderr, served.err))
    try:
        async with asyncio.timeout(TIMEOUT):
            while line := (await process.stdout.readline()).decode():
                served.out.append(line)
                if "Roost listens on " in line:
                    served.url = line.split()[-1]
                if line.startswith("Ctrl-C"):
                    break
        assert served.url, served.err
        output = asyncio.create_task(_keep(process.stdout, served.out))
        yield served
        if process.returncode is None:
            await served.stop()
        await asyncio.gather(output, errors)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        errors.cancel()


async def _spawn(
    arguments: tuple[str | Path, ...], env: Mapping[str, str], *, has_input: bool = False
) -> asyncio.subprocess.Process:
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "server",
        *map(str, arguments),
        cwd=ROOT,
        env={**inherited, "COLUMNS": "200", **env},
        stdin=asyncio.subprocess.PIPE if has_input else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def _keep(stream: asyncio.StreamReader, lines: list[str]) -> None:
    while line := await stream.readline():
        lines.append(line.decode())
