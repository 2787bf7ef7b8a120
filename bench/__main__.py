"""The benchmark's command line: starts the database and the servers, checks them, measures them in turn, reports."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path

import orjson
from pymongo import MongoClient

from bench.check import CheckError, check
from bench.load import SEED
from bench.plan import FULL, QUICK, ROWS, Account, Outcome, Plan, title
from bench.report import REFERENCE, as_json, summarise, table
from bench.servers import DEFAULT_KINDS, FOLDER, KINDS, Server, ServerError, install
from services.database.embedded import EmbeddedMongod

LOAD_SECONDS = 120.0


class LoadError(Exception):
    """The load process failed: the server could not be measured."""


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def mongod(folder: Path) -> Iterator[EmbeddedMongod]:
    """The database that all servers share, each with a database of its own in it."""
    with asyncio.Runner() as runner:
        running = runner.run(EmbeddedMongod.start(folder))
        try:
            yield running
        finally:
            runner.run(running.stop())


def load(plan: Plan) -> bytes:
    """Lets a load process do the plan; what it prints.

    Raises:
        LoadError: it failed, or did not end.
    """
    command = (sys.executable, "-m", "bench.load")
    try:
        done = subprocess.run(
            command, input=orjson.dumps(plan), capture_output=True, cwd=FOLDER.parent, timeout=LOAD_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise LoadError(f"'{plan.row}' did not end within {LOAD_SECONDS:.0f} s") from error
    if done.returncode:
        raise LoadError(f"'{plan.row}' failed:\n{done.stderr.decode()[-2000:]}")
    return done.stdout


def measure(server: Server, plan: Plan, uri: str, folder: Path) -> Outcome:
    """One row at one server."""
    if plan.row != "idle":
        return Outcome(**orjson.loads(load(plan)))
    # Memory that a server has grown by other work would hide what connections take: this row has a server of its own.
    own = Server(server.kind, uri, folder)
    try:
        own.start()
        return Outcome(**orjson.loads(load(replace(plan, port=own.port, server=own.pid))))
    finally:
        own.stop()


def run(options: argparse.Namespace, folder: Path) -> bool:
    """The whole benchmark; whether every server did all its work well."""
    scale = QUICK if options.quick else FULL
    kinds = [KINDS[name] for name in options.servers]
    for kind in kinds:
        if kind.packages is not None:
            install(kind.packages)
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(mongod(folder / "mongod"))
        plans = {}
        servers = []
        for kind in kinds:
            server = Server(kind, database.uri, folder)
            stack.callback(server.stop)
            servers.append(server.start())
            check(server)
            plan = Plan(SEED, kind.dialect, server.port, server.pid, database.pid, scale)
            accounts = tuple(Account(**account) for account in orjson.loads(load(plan)))
            plans[kind.name] = replace(plan, accounts=accounts)
            tell(f"{kind.title}: checked")
        runs: dict[str, dict[str, list[Outcome]]] = {row: {kind.name: [] for kind in kinds} for row in options.rows}
        for repetition in range(options.repeat):
            for row in options.rows:
                tell(f"{repetition + 1}/{options.repeat} {title(row, scale)}")
                # Nobody always comes first, after whatever the row before has left behind.
                for place in range(len(servers)):
                    server = servers[(place + repetition) % len(servers)]
                    plan = replace(plans[server.kind.name], row=row)
                    outcome = measure(server, plan, database.uri, folder)
                    runs[row][server.kind.name].append(outcome)
                    if outcome.error:
                        tell(f"{server.kind.title}: {outcome.error}")
        with MongoClient[dict[str, object]](database.uri) as client:
            version = str(client.server_info()["version"])
    summary = summarise(runs)
    print(table(summary, scale, judged=not options.quick))
    if not options.quick:
        from bench.plot import draw  # it takes longer to load than a quick run should

        node = subprocess.run(("node", "--version"), capture_output=True, text=True, check=False).stdout.strip()
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "results.json").write_bytes(as_json(runs, summary, scale, version, node))
        if REFERENCE in options.servers:
            draw(summary, scale, options.out / "results.png")
    return all(figures.sound for of_row in summary.values() for figures in of_row.values())


def names(known: Collection[str]) -> Callable[[str], list[str]]:
    """An option's type: names out of the known ones, separated by commas."""

    def parse(text: str) -> list[str]:
        chosen = [name.strip() for name in text.split(",")]
        if unknown := [name for name in chosen if name not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not one of {', '.join(known)}")
        return [name for name in known if name in chosen]

    return parse


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures Roost beside its peers.")
    parser.add_argument(
        "--quick", action="store_true", help="every row with tiny counts: a smoke test that judges no times"
    )
    parser.add_argument("--servers", type=names(KINDS), default=list(DEFAULT_KINDS), help=f"out of {','.join(KINDS)}")
    parser.add_argument("--rows", type=names(ROWS), default=list(ROWS), help=f"out of {','.join(ROWS)}")
    parser.add_argument("--repeat", type=int, default=None, help="repetitions, interleaved (3; 1 with --quick)")
    parser.add_argument("--out", type=Path, default=FOLDER, help="where results.json and results.png go")
    options = parser.parse_args()
    options.repeat = options.repeat or (1 if options.quick else 3)
    return options


def main() -> int:
    options = read_options()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="roost-bench-") as folder:
        try:
            sound = run(options, Path(folder))
        except (CheckError, LoadError, ServerError) as error:
            tell(str(error))
            return 1
    tell(f"{time.monotonic() - started:.0f} s{'' if sound else '; not every server did all its work well'}")
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
