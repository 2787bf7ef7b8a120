"""The example of `client-example/` over the demo apps: the page in a browser, and the chat from a terminal."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.acceptance.javascript import run
from tests.acceptance.machine import do_without
from tests.conftest import StartRoost

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "client-example"
MARKUP = '<img src=x onerror="document.title=1"> & <b>bold</b>'


@pytest.fixture
async def demo(roosts: StartRoost) -> int:
    """The port of a server with the apps of `demo.yaml`."""
    if not (EXAMPLE / "node_modules").is_dir():
        do_without("the example's packages are not installed: run `npm ci` in client-example")
    return (await roosts((ROOT / "demo.yaml").read_text(encoding="utf-8"), example=EXAMPLE)).port


async def test_two_tabs_chat_in_one_app_and_the_other_hears_nothing(demo: int, tmp_path: Path) -> None:
    executable = shutil.which("chromium") or do_without("chromium is not installed")

    found = await run("page", port=demo, executable=executable, pictures=str(tmp_path))

    said = ["Hello Bob", "Hello Alice", MARKUP]
    assert found["alice"] == found["bob"] == found["reloaded"] == said
    assert found["senders"] == ["alice", "bob", "bob"]
    assert all(time.endswith("Z") for time in found["times"])
    assert found["globex"] == [["Only in Globex"], ["Only in Globex"]]
    assert found["account"] == "You are alice"
    assert found["notYet"] == "Invalid login"
    assert found["taken"]
    assert found["title"] == "Two apps, one Roost"
    assert found["overflow"] <= 0, "the page is wider than a phone"
    assert found["afterLogout"] == []
    assert found["stillIn"]
    assert found["complaints"] == []
    assert (tmp_path / "desktop.png").stat().st_size > 10_000
    assert (tmp_path / "phone.png").stat().st_size > 10_000


async def test_two_terminals_chat(demo: int) -> None:
    async with asyncio.timeout(30), _chat(demo, "bob") as bob, _chat(demo, "alice") as alice:
        await _until(bob, "You are bob")
        await _until(alice, "You are alice")
        await _say(alice, "Hello Bob")
        await _until(bob, "alice: Hello Bob")
        await _say(bob, "Hello Alice")
        await _until(alice, "bob: Hello Alice")
        for process in (alice, bob):
            _, complaint = await process.communicate(b"")
            assert (process.returncode, complaint) == (0, b"")


async def test_the_terminal_says_why_it_was_not_let_in(demo: int) -> None:
    async with asyncio.timeout(30), _chat(demo, "alice", app="nope") as stranger:
        _, complaint = await stranger.communicate(b"")

    assert stranger.returncode == 1
    assert "Unknown app 'nope'" in complaint.decode()


@asynccontextmanager
async def _chat(port: int, name: str, app: str = "acme") -> AsyncIterator[asyncio.subprocess.Process]:
    arguments = ("chat.mjs", app, name, "correct horse", f"http://127.0.0.1:{port}")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        "node", *arguments, cwd=EXAMPLE, stdin=pipe, stdout=pipe, stderr=pipe
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate(b"")


async def _say(process: asyncio.subprocess.Process, text: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{text}\n".encode())
    await process.stdin.drain()


async def _until(process: asyncio.subprocess.Process, text: str) -> None:
    assert process.stdout is not None
    while line := await process.stdout.readline():
        if text in line.decode():
            return
    pytest.fail(f"the chat ended before it said {text!r}")
