"""The MongoDB server that Roost starts for itself when none is named: one replica-set member on 127.0.0.1.

A data directory has at most one mongod, shared by every Roost process that uses the directory: the first to come
starts it, the last to go stops it. Two file locks decide who that is, because the kernel releases them however a
process ends:

    mongod.lock   held while somebody starts or stops the mongod
    mongod.users  held (shared) by each process for as long as it uses the mongod
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar, Final

from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure, PyMongoError

from services.database.mongod import (
    EXIT_PORT_TAKEN,
    REPLICA_SET,
    EmbeddedMongodError,
    MongodEnded,
    MongodLog,
    explain,
    find_mongod,
    free_port,
    holder,
    is_free,
    is_running,
    spawn,
)

__all__ = ["EmbeddedMongod", "EmbeddedMongodError"]

# A member that finds a silent program at its old address asks it for 30 s whether it is itself, and only then moves.
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 10.0
TURN_SECONDS: Final = 90.0

_NOT_INITIALISED: Final = 94
_ALREADY_INITIALISED: Final = 23


class EmbeddedMongod:
    """A running mongod of one data directory, as used by this process. Made by `start`, given back by `stop`."""

    # Our children that we left to other processes; kept because Popen objects to being dropped before the child ends.
    _left: ClassVar[list[subprocess.Popen[bytes]]] = []

    def __init__(self, data: Path) -> None:
        self._dbpath = data / "mongod"
        self._record = data / "mongod.json"
        self._turn = os.open(data / "mongod.lock", os.O_RDWR | os.O_CREAT, 0o600)
        self._users = os.open(data / "mongod.users", os.O_RDWR | os.O_CREAT, 0o600)
        self._process: subprocess.Popen[bytes] | None = None
        self._in_use = False
        self.owned = False
        self.port = 0
        self.pid = 0

    @classmethod
    async def start(cls, data: Path, port: int | None = None) -> EmbeddedMongod:
        """Start the mongod of `data`, or join the one that runs; returns when it is primary and takes writes.

        `owned` is true when this process started it or found it without any other user (an orphan), and false beside
        a running server. `port` counts only when a mongod is started; without it the port of last time is used again.

        Raises:
            EmbeddedMongodError: no binary, a taken port, an unusable directory, a missing system library, ...
        """
        mongod = cls(_prepare(data))
        try:
            async with mongod._my_turn():
                await mongod._join(port)
        except OSError as error:
            mongod._close()
            raise _unusable(data, error) from error
        except BaseException:
            mongod._close()
            raise
        return mongod

    @classmethod
    async def attach(cls, data: Path) -> str | None:
        """The URI of the mongod that runs on `data`, or None. Starts, changes and holds nothing."""
        port = await _find(data)
        return None if port is None else _uri(port)

    @property
    def uri(self) -> str:
        return _uri(self.port)

    async def stop(self) -> None:
        """Leave the mongod, and stop it when no other process uses it. May be called more than once."""
        if not self._in_use:
            return
        self._in_use = False
        try:
            async with self._my_turn():
                if _try_lock(self._users):
                    await self._terminate()
                elif self._process is not None:
                    self._left.append(self._process)
        finally:
            self._close()

    @contextlib.asynccontextmanager
    async def _my_turn(self) -> AsyncIterator[None]:
        deadline = time.monotonic() + TURN_SECONDS
        while not _try_lock(self._turn):
            if time.monotonic() > deadline:
                raise EmbeddedMongodError(
                    f"Another Roost process has been starting or stopping the MongoDB of {self._dbpath.parent} "
                    f"for {TURN_SECONDS:.0f} seconds. Stop that process and try again."
                )
            await asyncio.sleep(0.05)
        try:
            yield
        finally:
            fcntl.flock(self._turn, fcntl.LOCK_UN)

    def _close(self) -> None:
        os.close(self._users)
        os.close(self._turn)

    async def _join(self, requested: int | None) -> None:
        alone = _try_lock(self._users)
        fcntl.flock(self._users, fcntl.LOCK_SH)
        running = await _find(self._dbpath.parent)
        if running is None:
            await self._start(requested)
        else:
            self.port, self.pid = running, holder(self._dbpath)
            try:
                await self._become_primary()
            except TimeoutError as error:
                raise EmbeddedMongodError(
                    f"The MongoDB that runs on {self._dbpath} was not ready after {START_SECONDS:.0f} seconds. "
                    f"See {self._dbpath / 'mongod.log'}."
                ) from error
        self.owned = alone or running is None
        self._in_use = True

    async def _start(self, requested: int | None) -> None:
        binary = find_mongod()
        recorded = _read_port(self._record)
        for _ in range(5):
            self.port = _choose_port(requested, recorded)
            log = MongodLog(self._dbpath / "mongod.log")
            self._process = spawn(binary, self._dbpath, self.port, log)
            self.pid = self._process.pid
            try:
                await self._become_primary()
                self._record.write_text(json.dumps({"port": self.port}) + "\n")
            except MongodEnded as ended:
                # Somebody may take the port between our look and mongod's.
                if ended.code == EXIT_PORT_TAKEN:
                    continue
                raise EmbeddedMongodError(explain(ended.code, binary, self._dbpath, log)) from ended
            except TimeoutError as error:
                await self._terminate()
                raise EmbeddedMongodError(
                    f"The embedded MongoDB was not ready after {START_SECONDS:.0f} seconds. {log.last_words()}"
                ) from error
            except BaseException:
                self._process.kill()
                self._process.wait()
                raise
            return
        raise EmbeddedMongodError(_port_taken(self.port))

    async def _become_primary(self) -> None:
        """Wait until the mongod is primary, initiating or moving its replica set to its present port where needed."""
        pause = 0.02
        async with asyncio.timeout(START_SECONDS):
            while is_free(self.port):
                self._check_alive()
                await asyncio.sleep(pause)
            async with _connect(self.port) as client:
                # What answers may be another program that was quicker to take the port.
                while not (await _is_of(client, self._dbpath) and await _settle(client, f"127.0.0.1:{self.port}")):
                    self._check_alive()
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, 0.5)

    def _check_alive(self) -> None:
        if self._process is not None and (code := self._process.poll()) is not None:
            raise MongodEnded(code)

    async def _terminate(self) -> None:
        """SIGTERM, which lets mongod write its checkpoint and go; SIGKILL when it has not gone after STOP_SECONDS."""
        if self.pid == 0 or (self._process is None and holder(self._dbpath) != self.pid):
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not self._runs():
                return
            os.kill(self.pid, number)
            deadline = time.monotonic() + STOP_SECONDS
            while time.monotonic() < deadline:
                if not self._runs():
                    return
                await asyncio.sleep(0.02)

    def _runs(self) -> bool:
        return is_running(self.pid) if self._process is None else self._process.poll() is None


def _prepare(data: Path) -> Path:
    data = data.resolve()
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        (data / "mongod").mkdir(exist_ok=True)
        (data / "mongod").chmod(0o700)
    except OSError as error:
        raise _unusable(data, error) from error
    return data


def _unusable(data: Path, error: OSError) -> EmbeddedMongodError:
    return EmbeddedMongodError(
        f"The data directory {data} cannot be used: {error.strerror} ({error.filename}). "
        "Name a directory that this user may write to, with free space, by --data."
    )


async def _find(data: Path) -> int | None:
    """The port of the mongod that runs on this very directory, or None."""
    trace = _trace(data)
    if trace is None:
        return None
    port, dbpath = trace
    # The process id in a stale lock may be another program's by now, and so may the port: ask.
    async with _connect(port) as client:
        return port if await _is_of(client, dbpath) else None


def _trace(data: Path) -> tuple[int, Path] | None:
    """Port and directory of the mongod that the files of `data` speak of, unless it clearly does not run."""
    data = data.resolve()
    port = _read_port(data / "mongod.json")
    if port is None or not holder(data / "mongod") or is_free(port):
        return None
    return port, data / "mongod"


def _read_port(record: Path) -> int | None:
    try:
        port = int(json.loads(record.read_text())["port"])
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None
    return port if 0 < port < 65_536 else None


def _uri(port: int) -> str:
    return f"mongodb://127.0.0.1:{port}/?replicaSet={REPLICA_SET}"


@contextlib.asynccontextmanager
async def _connect(port: int) -> AsyncIterator[AsyncMongoClient[dict[str, Any]]]:
    milliseconds = 2000
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
        "127.0.0.1",
        port,
        directConnection=True,
        serverSelectionTimeoutMS=milliseconds,
        connectTimeoutMS=milliseconds,
        socketTimeoutMS=milliseconds,
    )
    try:
        yield client
    finally:
        await client.close()


async def _is_of(client: AsyncMongoClient[dict[str, Any]], dbpath: Path) -> bool:
    """Whether the answering program is the mongod of `dbpath`."""
    try:
        options = await client.admin.command("getCmdLineOpts")
    except PyMongoError:
        return False
    return bool(options["parsed"].get("storage", {}).get("dbPath") == str(dbpath))


async def _settle(client: AsyncMongoClient[dict[str, Any]], host: str) -> bool:
    """One step towards being primary as `host`; true when there."""
    try:
        hello = await client.admin.command("hello")
        if hello.get("isWritablePrimary"):
            return bool(hello["me"] == host)
        config = (await client.admin.command("replSetGetConfig"))["config"]
        if config["members"][0]["host"] != host:
            config["members"][0]["host"] = host
            config["version"] += 1
            await client.admin.command({"replSetReconfig": config, "force": True})
    except OperationFailure as error:
        if error.code == _NOT_INITIALISED:
            await _initiate(client, host)
    except PyMongoError:
        pass
    return False


async def _initiate(client: AsyncMongoClient[dict[str, Any]], host: str) -> None:
    config = {"_id": REPLICA_SET, "members": [{"_id": 0, "host": host}]}
    try:
        await client.admin.command({"replSetInitiate": config})
    except OperationFailure as error:
        # A member that is still reading its configuration calls itself not initialised, yet refuses to be initiated.
        if error.code != _ALREADY_INITIALISED:
            raise EmbeddedMongodError(f"The embedded MongoDB refused its replica set: {error}") from error
    except PyMongoError:
        pass


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _choose_port(requested: int | None, recorded: int | None) -> int:
    if requested is not None:
        if not is_free(requested):
            raise EmbeddedMongodError(_port_taken(requested))
        return requested
    if recorded is not None and is_free(recorded):
        return recorded
    return free_port()


def _port_taken(port: int) -> str:
    return f"Port {port}, asked for by the embedded MongoDB, is taken by another program. Free it or choose another."
