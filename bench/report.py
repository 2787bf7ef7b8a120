"""What the outcomes say: medians and ratios, as a table and as JSON."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import orjson

from bench.plan import Outcome, Scale, title
from bench.servers import KINDS, PEERS

REFERENCE = "feathers"
"""The server that the others are compared with."""

TARGETS: Mapping[str, tuple[float, float]] = {
    "create": (4, 10),
    "get": (2.5, 5),
    "find": (2, 5),
    "patch": (2, 5),
    "fanout-small": (2.5, 4.5),
    "connect": (2, 6),
    "idle": (1, 3),
}
"""What Roost must reach and aims at, in times the reference."""

RIVAL, RIVAL_TARGET = "parse", 5.0
"""The server that Roost must surpass in CPU by this factor in every row."""

Runs = Mapping[str, Mapping[str, Sequence[Outcome]]]
"""Outcomes by row and by kind of server, one for each repetition."""


@dataclass(frozen=True, slots=True)
class Figures:
    """A server in one row: medians over the repetitions. CPU in microseconds per call, latencies in ms, memory in KiB.

    `ratio` is the median over the repetitions of what the reference used in the same repetition divided by what this
    server used, of memory in the row of idle connections and of CPU in all others; None without the reference.
    """

    calls: int
    rate: float
    cpu: float
    mongod_cpu: float
    load_cpu: float
    p50: float
    p99: float
    memory: float
    ratio: float | None
    failed: int
    lost: int
    leaked: int

    @property
    def sound(self) -> bool:
        """Whether all calls went well and all events arrived, and only where they should."""
        return not (self.failed or self.lost or self.leaked)


def _cost(outcome: Outcome) -> float:
    """What a call or a connection costs the server: KiB where memory was measured, else CPU in microseconds."""
    return outcome.memory or outcome.server_cpu / max(outcome.calls, 1) * 1e6


def figures(outcomes: Sequence[Outcome], reference: Sequence[Outcome]) -> Figures:
    def median(of: Any) -> float:
        return float(statistics.median(of(outcome) for outcome in outcomes))

    ratios = [_cost(theirs) / _cost(ours) for ours, theirs in zip(outcomes, reference, strict=False) if _cost(ours) > 0]
    return Figures(
        calls=sum(outcome.calls for outcome in outcomes),
        rate=median(lambda outcome: outcome.calls / outcome.seconds),
        cpu=median(lambda outcome: outcome.server_cpu / max(outcome.calls, 1) * 1e6),
        mongod_cpu=median(lambda outcome: outcome.mongod_cpu / max(outcome.calls, 1) * 1e6),
        load_cpu=median(lambda outcome: outcome.load_cpu / max(outcome.calls, 1) * 1e6),
        p50=median(lambda outcome: outcome.p50),
        p99=median(lambda outcome: outcome.p99),
        memory=median(lambda outcome: outcome.memory),
        ratio=statistics.median(ratios) if ratios else None,
        failed=sum(outcome.failed for outcome in outcomes),
        lost=sum(outcome.lost for outcome in outcomes),
        leaked=sum(outcome.leaked for outcome in outcomes),
    )


def summarise(runs: Runs) -> dict[str, dict[str, Figures]]:
    """The figures by row and by kind of server."""
    return {
        row: {kind: figures(outcomes, of_row.get(REFERENCE, ())) for kind, outcomes in of_row.items()}
        for row, of_row in runs.items()
    }


def table(summary: Mapping[str, Mapping[str, Figures]], scale: Scale, *, judged: bool) -> str:
    """The summary as a Markdown table whose columns are aligned, so that it reads well on a terminal too.

    `judged` adds what Roost had to reach.
    """
    head = ["work", "server", "CPU", "x", "per s", "p50 ms", "p99 ms", "load CPU", "mongod CPU", "note"]
    lines = []
    for row, of_row in summary.items():
        name = title(row, scale)
        for kind, entry in of_row.items():
            notes = _notes(row, kind, of_row, judged=judged)
            lines.append([name, KINDS[kind].title, *_cells(row, entry, notes)])
            name = ""
    widths = [max(len(line[column]) for line in [head, *lines]) for column in range(len(head))]

    def show(line: Sequence[str]) -> str:
        cells = [
            cell.ljust(width) if column in (0, 1, 9) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        return f"| {' | '.join(cells)} |"

    rule = ["-" * width if column in (0, 1, 9) else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    return "\n".join([show(head), show(rule), *map(show, lines)])


def _cells(row: str, entry: Figures, notes: list[str]) -> list[str]:
    ratio = "-" if entry.ratio is None else f"x{digits(entry.ratio)}"
    if row == "idle":
        return [f"{digits(entry.memory)} KiB", ratio, "", "", "", "", "", "; ".join(notes)]
    return [
        f"{digits(entry.cpu)} us",
        ratio,
        f"{entry.rate:.0f}",
        f"{entry.p50:.2f}",
        f"{entry.p99:.2f}",
        f"{digits(entry.load_cpu)} us",
        f"{digits(entry.mongod_cpu)} us",
        "; ".join(notes),
    ]


def _notes(row: str, kind: str, of_row: Mapping[str, Figures], *, judged: bool) -> list[str]:
    entry = of_row[kind]
    counts = {"failed": entry.failed, "events lost": entry.lost, "EVENTS LEAKED": entry.leaked}
    notes = [f"{count} {what}" for what, count in counts.items() if count]
    if not judged or kind != "roost":
        return notes
    if entry.ratio is not None and row in TARGETS:
        must, aim = TARGETS[row]
        if entry.ratio < must:
            notes.append(f"MISSES x{digits(must)}")
        else:
            notes.append(f"{'aim' if entry.ratio >= aim else 'must'} reached (x{digits(must)}, x{digits(aim)})")
    if RIVAL in of_row and row != "idle":
        ratio = of_row[RIVAL].cpu / entry.cpu
        notes.append(
            f"x{digits(ratio)} {KINDS[RIVAL].title}"
            + (f", MISSES x{digits(RIVAL_TARGET)}" if ratio < RIVAL_TARGET else "")
        )
    return notes


def digits(value: float) -> str:
    """Two significant digits without idle zeros, or all of a larger number's."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def versions() -> dict[str, str]:
    """What was measured."""
    python = {
        name: metadata.version(name) for name in ("python-socketio", "python-engineio", "aiohttp", "pymongo", "uvloop")
    }
    node = {}
    for folder, package in (("feathers", "@feathersjs/feathers"), ("feathers", "socket.io"), ("parse", "parse-server")):
        described = PEERS / folder / "node_modules" / package / "package.json"
        if described.is_file():
            node[package] = orjson.loads(described.read_bytes())["version"]
    return {"python": platform.python_version(), **python, **node}


def machine() -> dict[str, str | int]:
    """What it was measured on."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": names[0].partition(": ")[2] if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30),
        "system": f"{platform.system()} {platform.release()}",
    }


def as_json(runs: Runs, summary: Mapping[str, Mapping[str, Figures]], scale: Scale, mongod: str, node: str) -> bytes:
    """All outcomes, and what they come to."""
    return orjson.dumps(
        {
            "machine": machine(),
            "versions": {**versions(), "node": node, "mongod": mongod},
            "scale": asdict(scale),
            "rows": {
                row: {
                    "title": title(row, scale),
                    "servers": {
                        kind: {"median": asdict(entry), "runs": [asdict(outcome) for outcome in runs[row][kind]]}
                        for kind, entry in of_row.items()
                    },
                }
                for row, of_row in summary.items()
            },
        },
        option=orjson.OPT_INDENT_2,
    )
