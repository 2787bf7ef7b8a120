"""`tail`: an app's calls and events, live."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from server.backend import open_backend
from server.cli.command import App, Data, run, tenant_of
from server.settings import Settings

AHEAD = 10.0
"""Seconds for which nodes are asked to go on: one that is killed here watches no longer."""
EVERY = 0.3
LATE = timedelta(seconds=3)
"""How late a line may come: nodes write a few times a second, and their clocks differ."""
SLOW = 0.05
"""Milliseconds from which a hook is worth a line."""


def tail(
    app: App,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="End after so many seconds.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    hooks: Annotated[bool, typer.Option(help="Show what each hook took.")] = True,
    data: Data = None,
) -> None:
    """Watch an app's calls and events on all running servers, with timings; values are never shown. Ctrl-C ends it."""
    run(lambda settings: _tail(settings, app, seconds, as_json=as_json, hooks=hooks), data=data)


async def _tail(settings: Settings, app: str, seconds: float | None, *, as_json: bool, hooks: bool) -> None:
    clock = asyncio.get_running_loop().time
    ends = None if seconds is None else clock() + seconds
    async with open_backend(settings) as backend:
        tenant = await tenant_of(backend, app)
        watcher, seen = uuid.uuid4().hex, OrderedDict[Any, None]()
        began = datetime.now(UTC)
        if not as_json:
            typer.echo(f"Watching {tenant.id}; Ctrl-C ends it.", err=True)
        try:
            while ends is None or clock() < ends:
                await backend.tails.watch(watcher, tenant.id, AHEAD)
                for line in await backend.tails.read(tenant.id, max(began, datetime.now(UTC) - LATE)):
                    if line["_id"] not in seen:
                        seen[line["_id"]] = None
                        typer.echo(_as_json(line) if as_json else _as_text(line, hooks=hooks))
                while len(seen) > 10_000:
                    seen.popitem(last=False)
                await asyncio.sleep(EVERY)
        finally:
            await backend.tails.end(watcher)


def _as_json(line: dict[str, Any]) -> str:
    shown = {name: value for name, value in line.items() if name not in ("_id", "app_id")}
    return json.dumps({**shown, "at": line["at"].isoformat()})


def _as_text(line: dict[str, Any], *, hooks: bool) -> str:
    at = f"{line['at']:%H:%M:%S.%f}"[:-3]
    if line["kind"] == "gap":
        return f"{at}  ... {line['lines']} more lines in this second"
    if line["kind"] == "event":
        return f"{at}  event   {line['name']} -> {line['sockets']} sockets  {_shape(line['data'])}"
    ended = line.get("error", "ok")
    who = line["user"] or "stranger"
    text = f"{at}  {line['transport']:8}{line['method']} {line['path']}  {line['ms']:.1f} ms  {ended}  {who}"
    text += "".join(f"  {name} {_shape(line[name])}" for name in ("query", "data") if line[name] not in ({}, "null"))
    slow = [f"{kind} {name} {ms:.2f}" for kind, name, ms in line["hooks"] if ms >= SLOW]
    return f"{text}\n{'':14}{', '.join(slow)} ms" if hooks and slow else text


def _shape(value: Any) -> str:
    return json.dumps(value, separators=(",", ":")).replace('"', "")
