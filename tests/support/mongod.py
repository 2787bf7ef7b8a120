"""Real MongoDB servers for the tests: one per test session, and replica sets of one to three members to do harm to."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from services.database.mongod import REPLICA_SET, MongodLog, arguments, find_mongod, free_port

# Failures are noticed and elections held within about a second instead of ten.
SETTINGS = {"electionTimeoutMillis": 1000, "heartbeatIntervalMillis": 200, "heartbeatTimeoutSecs": 1}
READY_SECONDS = 30.0
_TESTED = (
    "--setParameter=enableTestCommands=1",
    # Dropped collections are gone at the next checkpoint, not after five minutes: hundreds of databases come and go here, and
    # each of their files is held open until then.
    "--setParameter=minSnapshotHistoryWindowInSeconds=0",
    "--syncdelay=2",
    # What the database does to itself, as dropping a database, waits for its journal's turn: a tenth of a second otherwise.
    "--journalCommitInterval=10",
)
ENOUGH_MEMORY = 3 * 1024**3

T = TypeVar("T")


def _memory() -> str | None:
    """A directory in memory, where one is large enough: making and dropping hundreds of databases waits for no disk there."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or shutil.disk_usage(memory).free < ENOUGH_MEMORY:
        return None
    return str(memory)


@contextmanager
def session_mongod() -> Iterator[str]:
    """The URI of a fresh single-member replica set, which ends with the block. For a fixture of session scope."""
    with ReplicaSet() as replica_set:
        yield replica_set.uri


class ReplicaSet:
    """A replica set of `members` mongods with fresh data; a context manager. Members are named by index from 0.

    The members accept fail points (`configureFailPoint`). What takes long is async, and does not hold up the event
    loop that a server under test runs in.
    """

    def __init__(self, members: int = 1, options: Sequence[str] = ()) -> None:
        """`options` are further ones of each member's command line."""
        self._options = options
        self._binary = find_mongod()
        self._folder = tempfile.TemporaryDirectory(prefix="roost-mongod-", dir=_memory())
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * members
        self._logs: dict[int, MongodLog] = {}
        self.ports = [free_port() for _ in range(members)]

    def __enter__(self) -> Self:
        try:
            for member in range(len(self.ports)):
                self._spawn(member)
            self._initiate()
            self._wait_primary()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def uri(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"mongodb://{hosts}/?replicaSet={REPLICA_SET}"

    def stop(self) -> None:
        """Kill every member and delete its data."""
        for member in range(len(self.ports)):
            self.kill(member)
        self._folder.cleanup()

    def kill(self, member: int) -> None:
        """SIGKILL: the member is gone at once; its data stays for `restart`."""
        process = self._processes[member]
        if process is not None:
            process.kill()
            process.wait()
            self._processes[member] = None

    def freeze(self, member: int) -> None:
        """SIGSTOP: the member keeps its connections and answers nothing."""
        os.kill(self._pid(member), signal.SIGSTOP)

    def thaw(self, member: int) -> None:
        os.kill(self._pid(member), signal.SIGCONT)

    async def restart(self, member: int) -> None:
        """Start a killed member on its old port and data; returns when the set has a primary."""
        self._spawn(member)
        await self.wait_primary()

    async def step_down(self, seconds: int = 1) -> None:
        """Make the primary step down and not stand again for `seconds`. There may be no primary on return."""
        await asyncio.to_thread(self._step_down, seconds)

    async def hold_back(self, member: int, seconds: int) -> None:
        """Has a secondary not stand for election for `seconds`."""
        await asyncio.to_thread(self._hold_back, member, seconds)

    async def wait_primary(self) -> int:
        """Wait until a member is primary; its index."""
        return await asyncio.to_thread(self._wait_primary)

    def primary(self) -> int | None:
        """The index of the primary, None when there is none at this moment."""
        for member, process in enumerate(self._processes):
            if process is not None and self._hello(member).get("isWritablePrimary"):
                return member
        return None

    def _pid(self, member: int) -> int:
        process = self._processes[member]
        assert process is not None, f"member {member} does not run"
        return process.pid

    def _spawn(self, member: int) -> None:
        assert self._processes[member] is None, f"member {member} runs already"
        dbpath = Path(self._folder.name) / str(member)
        dbpath.mkdir(exist_ok=True)
        self._logs[member] = MongodLog(dbpath / "mongod.log")
        with self._logs[member].path.open("ab") as log:
            command = [*arguments(self._binary, dbpath, self.ports[member]), *_TESTED, *self._options]
            # In our own process group: a Ctrl-C or a time limit that ends the tests ends the servers too.
            self._processes[member] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _initiate(self) -> None:
        members = [{"_id": index, "host": f"127.0.0.1:{port}"} for index, port in enumerate(self.ports)]
        self._until(lambda: all(map(self._hello, range(len(self.ports)))) or None)
        with self._client(0) as client:
            client.admin.command({"replSetInitiate": {"_id": REPLICA_SET, "members": members, "settings": SETTINGS}})

    def _step_down(self, seconds: int) -> None:
        member = self._wait_primary()
        with self._client(member) as client:
            client.admin.command({"replSetStepDown": seconds, "secondaryCatchUpPeriodSecs": 0, "force": True})

    def _hold_back(self, member: int, seconds: int) -> None:
        with self._client(member) as client:
            client.admin.command({"replSetFreeze": seconds})

    def _wait_primary(self) -> int:
        return self._until(self.primary)

    def _until(self, look: Callable[[], T | None]) -> T:
        deadline = time.monotonic() + READY_SECONDS
        while (seen := look()) is None:
            for member, process in enumerate(self._processes):
                if process is not None and process.poll() is not None:
                    raise AssertionError(f"member {member} has ended. {self._logs[member].last_words()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"not after {READY_SECONDS:.0f} seconds. {self._logs[0].last_words()}")
            time.sleep(0.02)
        return seen

    def _hello(self, member: int) -> dict[str, Any]:
        try:
            with self._client(member) as client:
                return client.admin.command("hello")
        except PyMongoError:
            return {}

    def _client(self, member: int) -> MongoClient[dict[str, Any]]:
        return MongoClient(
            "127.0.0.1",
            self.ports[member],
            directConnection=True,
            serverSelectionTimeoutMS=1000,
            connectTimeoutMS=1000,
            socketTimeoutMS=5000,
        )
