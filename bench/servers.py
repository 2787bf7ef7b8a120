"""The servers that are measured: how each is installed, started, known to be ready, and stopped."""

from __future__ import annotations

import base64
import http.client
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).parent
PEERS = FOLDER / "peers"
START_SECONDS = 60.0
STOP_SECONDS = 10.0
MASTER_KEY = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


class ServerError(Exception):
    """A server did not start, or ended by itself; the message has the end of its log."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of server: what it is called, what it speaks, what runs it."""

    name: str
    title: str
    dialect: str
    command: tuple[str, ...]
    """`{port}` and `{data}` stand for the port and a directory of its own."""
    ready: str = "/"
    environment: Mapping[str, str] = field(default_factory=dict)
    """`{port}`, `{uri}` and `{database}` stand for what they say."""
    packages: Path | None = None
    """The folder of its `package-lock.json`."""

    @property
    def database(self) -> str:
        """The database of its data."""
        return f"bench_{self.name.replace('-', '_')}"


_ROOST = (
    *(sys.executable, "-m", "server", "serve"),
    *("--port", "{port}", "--data", "{data}", "--apply", str(FOLDER / "tenants.yaml")),
)
_SETTINGS = {
    "ROOST_MONGODB_URI": "{uri}",
    "ROOST_DATABASE": "{database}",
    "ROOST_MASTER_KEY": MASTER_KEY,
    "ROOST_LOG_LEVEL": "warning",
}
_PEER = {"PORT": "{port}", "MONGODB_URI": "{uri}", "DATABASE": "{database}", "NODE_ENV": "production"}
_FEATHERS = ("node", str(PEERS / "feathers" / "server.js"))

KINDS = {
    kind.name: kind
    for kind in (
        Kind("roost", "Roost", "feathers", _ROOST, ready="/health", environment=_SETTINGS),
        Kind(
            "roost-pymongo",
            "Roost, all by PyMongo",
            "feathers",
            _ROOST,
            ready="/health",
            environment={**_SETTINGS, "ROOST_MONGO_PATH": "pymongo"},
        ),
        Kind(
            "roost-lean",
            "Roost, lean command path",
            "feathers",
            _ROOST,
            ready="/health",
            environment={**_SETTINGS, "ROOST_MONGO_PATH": "lean"},
        ),
        Kind("feathers", "Feathers 5", "feathers", _FEATHERS, environment=_PEER, packages=PEERS / "feathers"),
        Kind(
            "feathers-verify",
            "Feathers 5, login verified per call",
            "feathers",
            _FEATHERS,
            environment={**_PEER, "AUTHENTICATE": "call"},
            packages=PEERS / "feathers",
        ),
        Kind(
            "parse",
            "Parse Server",
            "parse",
            ("node", str(PEERS / "parse" / "server.js")),
            ready="/parse/health",
            environment=_PEER,
            packages=PEERS / "parse",
        ),
        Kind(
            "plain",
            "python-socketio + PyMongo",
            "feathers",
            (sys.executable, "-m", "bench.peers.plain"),
            environment=_PEER,
        ),
    )
}
"""All kinds by name, in the order of the report."""

DEFAULT_KINDS = ("roost", "feathers", "parse", "plain")


def install(folder: Path) -> None:
    """Installs a folder's locked npm packages unless they are there."""
    if not (folder / "node_modules").is_dir():
        subprocess.run(("npm", "ci", "--no-audit", "--no-fund"), cwd=folder, check=True, stdout=sys.stderr)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """One running server of a kind. `start` returns when it answers."""

    def __init__(self, kind: Kind, uri: str, folder: Path) -> None:
        self.kind = kind
        self.port = free_port()
        self._uri = uri
        self._log = folder / f"{kind.name}-{self.port}.log"
        self._data = folder / f"{kind.name}-{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> Server:
        """
        Raises:
            ServerError: it ended, or has not answered within a minute.
        """
        values = {"port": str(self.port), "uri": self._uri, "database": self.kind.database, "data": str(self._data)}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("ROOST_")}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [part.format(**values) for part in self.kind.command],
                cwd=FOLDER.parent,
                env={**inherited, **{name: value.format(**values) for name, value in self.kind.environment.items()}},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise ServerError(f"{self.kind.title} did not start:\n{self.last_words()}")
            time.sleep(0.05)
        return self

    def last_words(self) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-2000:]

    def stop(self) -> None:
        """Ends it, with whatever it has started."""
        if self._process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is None:
                os.killpg(self._process.pid, number)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                continue
            break

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", self.kind.ready)
            return connection.getresponse().status < 500
        except OSError:
            return False
        finally:
            connection.close()
