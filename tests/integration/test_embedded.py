"""The embedded mongod: one per data directory, whose data, users and mishaps outlive any single process."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from pymongo import AsyncMongoClient

from services.database.embedded import EmbeddedMongod, EmbeddedMongodError
from services.database.mongod import PORTS, find_mongod

Start = Callable[..., Awaitable[EmbeddedMongod]]

OWNER = """
import asyncio, sys
from pathlib import Path
from services.database.embedded import EmbeddedMongod

async def main() -> None:
    mongod = await EmbeddedMongod.start(Path(sys.argv[1]))
    print(mongod.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start (or join) the mongod of one data directory; all that a test leaves is stopped."""
    started: list[EmbeddedMongod] = []

    async def begin(port: int | None = None) -> EmbeddedMongod:
        mongod = await EmbeddedMongod.start(tmp_path / "data", port)
        started.append(mongod)
        return mongod

    yield begin
    for mongod in started:
        await mongod.stop()


async def write(mongod: EmbeddedMongod, text: str) -> None:
    async with AsyncMongoClient[dict[str, Any]](mongod.uri) as client:
        await client.kept.notes.insert_one({"text": text})


async def read(mongod: EmbeddedMongod) -> list[str]:
    async with AsyncMongoClient[dict[str, Any]](mongod.uri) as client:
        return [note["text"] async for note in client.kept.notes.find()]


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def squat(port: int) -> socket.socket:
    """Take a port as another program would."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen()
    return listener


async def test_second_start_finds_data_and_port_again(start: Start) -> None:
    first = await start()
    await write(first, "hello")
    await first.stop()
    assert not runs(first.pid)

    second = await start()
    assert await read(second) == ["hello"]
    assert second.port == first.port
    assert second.port in PORTS
    assert second.owned


async def test_it_is_a_replica_set_with_transactions_that_only_this_machine_reaches(
    start: Start, tmp_path: Path
) -> None:
    mongod = await start()
    async with (
        AsyncMongoClient[dict[str, Any]](mongod.uri) as client,
        client.start_session() as session,
        await session.start_transaction(),
    ):
        await client.kept.notes.insert_one({"text": "whole"}, session=session)
    assert await read(mongod) == ["whole"]
    listening = {c.laddr.ip for c in psutil.Process(mongod.pid).net_connections() if c.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}
    assert stat.S_IMODE((tmp_path / "data" / "mongod").stat().st_mode) == 0o700


async def test_mongod_is_deaf_to_the_terminal_and_knows_no_setting(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOST_MASTER_KEY", "secret")
    mongod = await start()
    assert os.getsid(mongod.pid) == mongod.pid != os.getsid(0)
    assert not [name for name in psutil.Process(mongod.pid).environ() if name.startswith("ROOST_")]


async def test_one_who_comes_beside_a_server_shares_its_mongod_and_leaves_it_running(
    start: Start, tmp_path: Path
) -> None:
    server = await start()
    beside = await start()
    assert (beside.pid, beside.uri, beside.owned) == (server.pid, server.uri, False)
    assert await EmbeddedMongod.attach(tmp_path / "data") == server.uri
    await beside.stop()
    assert runs(server.pid)
    await server.stop()
    assert not runs(server.pid)
    assert await EmbeddedMongod.attach(tmp_path / "data") is None


async def test_the_last_to_go_stops_the_mongod(start: Start) -> None:
    starter, other = await start(), await start()
    await starter.stop()
    await write(other, "still here")
    await other.stop()
    assert not runs(starter.pid)


async def test_simultaneous_starts_share_one_mongod(start: Start) -> None:
    several = await asyncio.gather(*(start() for _ in range(4)))
    assert len({mongod.pid for mongod in several}) == 1
    assert sorted(mongod.owned for mongod in several) == [False, False, False, True]


async def test_the_orphan_of_a_killed_server_is_adopted_and_stopped(start: Start, tmp_path: Path) -> None:
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, str(tmp_path / "data"), stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    pid = int(await owner.stdout.readline())
    beside = await start()
    assert (beside.pid, beside.owned) == (pid, False)
    await beside.stop()
    owner.kill()
    await owner.wait()
    assert runs(pid)

    heir = await start()
    assert (heir.pid, heir.owned) == (pid, True)
    await heir.stop()
    assert not runs(pid)


async def test_a_killed_mongod_leaves_its_data_and_a_lock_that_does_not_hinder(start: Start, tmp_path: Path) -> None:
    first = await start()
    await write(first, "journaled")
    psutil.Process(first.pid).kill()
    await first.stop()
    assert (tmp_path / "data" / "mongod" / "mongod.lock").read_text().strip() == str(first.pid)
    assert await EmbeddedMongod.attach(tmp_path / "data") is None
    assert await read(await start()) == ["journaled"]


async def test_it_moves_to_another_port_when_its_own_is_taken(start: Start, tmp_path: Path) -> None:
    first = await start()
    await write(first, "moved")
    await first.stop()

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", first.port):
        assert await EmbeddedMongod.attach(tmp_path / "data") is None
        second = await start()
        assert second.port != first.port
        assert await read(second) == ["moved"]
    await second.stop()
    assert (await start()).port == second.port


async def test_it_is_not_mistaken_for_the_mongod_of_another_directory(start: Start, tmp_path: Path) -> None:
    first = await start()
    await write(first, "mine")
    await first.stop()
    stranger = await EmbeddedMongod.start(tmp_path / "stranger", first.port)
    try:
        assert await EmbeddedMongod.attach(tmp_path / "data") is None
        second = await start()
        assert second.port != first.port
        assert await read(second) == ["mine"]
        assert await read(stranger) == []
    finally:
        await stranger.stop()


async def test_a_taken_port_that_was_asked_for_is_named(start: Start, tmp_path: Path) -> None:
    with squat(0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(EmbeddedMongodError, match=rf"Port {port}, .* taken by another program"):
            await start(port)
    assert (await start(port)).port == port


async def test_a_cancelled_start_leaves_no_process(tmp_path: Path) -> None:
    async def appears() -> psutil.Process:
        while True:
            for child in psutil.Process().children():
                with suppress(psutil.ZombieProcess):
                    if f"--dbpath={tmp_path}/mongod" in child.cmdline():
                        return child
            await asyncio.sleep(0.01)

    starting = asyncio.create_task(EmbeddedMongod.start(tmp_path))
    child = await appears()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not runs(child.pid)


async def test_a_mongod_that_holds_the_data_but_does_not_answer_is_named(start: Start) -> None:
    first = await start()
    os.kill(first.pid, signal.SIGSTOP)
    try:
        with pytest.raises(EmbeddedMongodError, match=rf"process {first.pid} holds .* does not answer"):
            await start()
    finally:
        os.kill(first.pid, signal.SIGCONT)
    assert (await start()).pid == first.pid


async def test_damaged_data_is_reported_with_the_last_words_of_the_log(start: Start, tmp_path: Path) -> None:
    await (await start()).stop()
    (tmp_path / "data" / "mongod" / "WiredTiger.turtle").write_text("damaged\n")
    with pytest.raises(EmbeddedMongodError, match=r"ended at its start with code -?\d+.*(?s:.*)WiredTiger"):
        await start()


async def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.touch()
    with pytest.raises(EmbeddedMongodError, match=rf"{occupied} cannot be used: .*--data"):
        await EmbeddedMongod.start(occupied)
    with pytest.raises(EmbeddedMongodError, match=r"cannot be used: .*--data"):
        await EmbeddedMongod.start(occupied / "below")


async def test_a_missing_system_library_is_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = tmp_path / "first" / "fiftyone" / "db" / "bin" / "mongod"
    binary.parent.mkdir(parents=True)
    # The real server, made to ask for a library of the same name length that no machine has.
    binary.write_bytes(find_mongod().read_bytes().replace(b"liblzma.so.5\0", b"liblzma.so.0\0"))
    binary.chmod(0o755)
    monkeypatch.syspath_prepend(tmp_path / "first")
    assert find_mongod() == binary
    with pytest.raises(EmbeddedMongodError, match=r"not installed: liblzma\.so\.0\. Install them with: sudo apt-get"):
        await EmbeddedMongod.start(tmp_path / "data")


async def test_a_binary_of_another_kind_of_machine_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = tmp_path / "first" / "fiftyone" / "db" / "bin" / "mongod"
    binary.parent.mkdir(parents=True)
    binary.write_bytes(b"\x7fELF of another processor")
    binary.chmod(0o755)
    monkeypatch.syspath_prepend(tmp_path / "first")
    with pytest.raises(EmbeddedMongodError, match=rf"{binary} cannot be run on this machine .*ROOST_MONGODB_URI"):
        await EmbeddedMongod.start(tmp_path / "data")


class TestFindMongod:
    @pytest.fixture
    def without_wheel(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        package = tmp_path / "shadow" / "fiftyone"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        monkeypatch.syspath_prepend(tmp_path / "shadow")

    @pytest.mark.usefixtures("without_wheel")
    def test_mongod_on_path_is_the_second_choice(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        on_path = tmp_path / "bin" / "mongod"
        on_path.parent.mkdir()
        on_path.touch(mode=0o755)
        monkeypatch.setenv("PATH", str(on_path.parent))
        assert find_mongod() == on_path

    @pytest.mark.usefixtures("without_wheel")
    def test_the_error_names_all_three_ways(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(EmbeddedMongodError, match=r"ROOST_MONGODB_URI .* embedded wheel .* mongod on PATH"):
            find_mongod()

    def test_the_wheel_is_found_without_importing_it(self) -> None:
        code = "import sys; from services.database.mongod import find_mongod; find_mongod(); print(sorted(sys.modules))"
        modules = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
        assert "'services.database.mongod'" in modules
        assert "fiftyone" not in modules
