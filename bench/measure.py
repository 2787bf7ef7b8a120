"""What a process has used: CPU time and resident memory of a tree of processes, from the kernel's own books."""

from __future__ import annotations

import time
from pathlib import Path

PROC = Path("/proc")


def children(pid: int) -> list[int]:
    """The live children of a process, whichever of its threads started them."""
    lists = PROC.joinpath(str(pid), "task").glob("*/children")
    return [int(child) for listed in lists for child in listed.read_text().split()]


def tree(pid: int) -> list[int]:
    """A process and all that descend from it."""
    return [pid, *(descendant for child in children(pid) for descendant in tree(child))]


def cpu_seconds(pid: int) -> float:
    """User and system time of one process, all its threads, the ended ones too.

    It is `utime + stime` of `/proc/<pid>/stat` before these are rounded to ticks of 10 ms: the process's CPU clock,
    whose number the kernel makes of the pid.
    """
    return time.clock_gettime((~pid << 3) | 2)


def tree_cpu_seconds(pid: int) -> float:
    """User and system time of a process and its descendants."""
    return sum(cpu_seconds(member) for member in tree(pid))


def tree_rss_kib(pid: int) -> int:
    """Resident memory of a process and its descendants, in KiB."""
    return sum(_rss_kib(member) for member in tree(pid))


def _rss_kib(pid: int) -> int:
    for line in PROC.joinpath(str(pid), "status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise ProcessLookupError(f"process {pid} has ended")


class Stopwatch:
    """Wall-clock and CPU time since it was made, of a server's tree, of its database, and of this very process."""

    def __init__(self, server: int, mongod: int) -> None:
        self._pids = server, mongod
        self._start = self._read()

    def _read(self) -> tuple[float, float, float, float]:
        server, mongod = self._pids
        return time.perf_counter(), tree_cpu_seconds(server), cpu_seconds(mongod), time.process_time()

    def read(self) -> tuple[float, float, float, float]:
        """Seconds passed, and CPU seconds of the server, the database and this process."""
        seconds, server, mongod, own = (now - then for now, then in zip(self._read(), self._start, strict=True))
        return seconds, server, mongod, own
