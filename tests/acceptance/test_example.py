"""The example of `client-example/` over the demo apps: the page in a browser, and the chat from a terminal."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from server.backend import open_backend
from server.main import Roost
from services import declaration
from tests.acceptance.javascript import run
from tests.acceptance.machine import do_without
from tests.conftest import StartRoost
from tests.support.roost import start_roost
from tests.support.tripwire import Tripwire

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "client-example"
DEMO = (ROOT / "demo.yaml").read_text(encoding="utf-8")
MARKUP = '<img src=x onerror="document.title=1"> & <b>bold</b>'


def installed() -> Path:
    """The example's directory, with its packages in it."""
    if not (EXAMPLE / "node_modules").is_dir():
        do_without("the example's packages are not installed: run `npm ci` in client-example")
    return EXAMPLE


@pytest.fixture
async def demo(roosts: StartRoost) -> int:
    """The port of a server with the apps of `demo.yaml`."""
    return (await roosts(DEMO, example=installed())).port


async def test_two_tabs_of_one_app_and_what_the_other_hears(
    mongod: str, tripwire: Tripwire, roosts: StartRoost, tmp_path: Path
) -> None:
    executable = shutil.which("chromium") or do_without("chromium is not installed")
    first = await start_roost(mongod, DEMO, tripwire=tripwire, example=installed())

    found = await run(
        "page",
        meanwhile=lambda: _restart(first, roosts),
        port=first.port,
        executable=executable,
        pictures=str(tmp_path),
    )

    said = ["Hello Bob", "Hello Alice", MARKUP]
    assert found["alice"] == found["bob"] == said
    assert found["senders"] == ["alice", "bob", "bob"]
    assert all(time.endswith("Z") for time in found["times"])
    assert found["globex"] == [["Only in Globex"], ["Only in Globex"]]
    assert found["account"] == "You are alice"
    assert found["notYet"] == "Invalid login"
    assert found["taken"]
    assert found["title"] == "Two apps, one Roost"

    mine, public = [*said, "A secret", "No secret"], [*said, "No secret"]
    assert found["kept"] == found["taken_back"] == [mine, public]
    assert found["shared"] == mine, "in its place by time"
    assert found["foreign"] == 0, "who has not written it cannot make it private"
    assert found["reloaded"] == mine

    assert found["returned"] == [*mine, "Still me", "Me too"]
    (acme, globex), (acme_after, globex_after) = found["tokens"]["before"], found["tokens"]["after"]
    assert globex_after == globex, "its access token was still good"
    assert acme_after["access"] != acme["access"]
    assert acme_after["refresh"] != acme["refresh"]
    assert acme["refresh"]
    assert acme_after["refresh"]
    assert found["noErrors"] == ""
    assert found["overflow"] <= 0, "the page is wider than a phone"

    assert found["everywhere"] == ["You have been logged out."] * 2
    assert found["left"] == [{}, {}], "no token is left behind"
    assert found["gone"]
    assert found["afterLogout"] == [[], []]
    assert found["stillIn"], "the other app is another login"
    assert found["bobLeft"] == []
    assert found["complaints"] == []
    for picture in ("door", "desktop", "away", "tablet", "phone"):
        assert (tmp_path / f"{picture}.png").stat().st_size > 10_000


async def test_a_page_of_an_unlisted_origin_says_why_it_waits_and_goes_on_once_it_is_listed(roosts: StartRoost) -> None:
    executable = shutil.which("chromium") or do_without("chromium is not installed")
    roost = await roosts(DEMO, example=installed())
    here = f"http://127.0.0.1:{roost.port}"

    async def list_it() -> None:
        await roost.backend.apply(declaration.parse(DEMO.replace("http://127.0.0.1:3030", here)))

    found = await run("stranger", meanwhile=list_it, url=here, executable=executable)

    for app, said in zip(("acme", "globex"), found["refused"], strict=True):
        assert f"{here}, which is not among the allowed_origins of the app '{app}'" in said
    assert found["waiting"] == ["Connecting…"] * 2, "it goes on trying"
    assert found["afterwards"] == [""] * 2


async def test_two_terminals_chat(demo: int) -> None:
    async with asyncio.timeout(30), _chat(demo, "bob") as bob, _chat(demo, "alice") as alice:
        await _until(bob, "You are bob")
        await _until(alice, "You are alice")
        await _say(alice, "Hello Bob")
        assert await _until(bob, "alice: ") == "Hello Bob"
        await _say(bob, "Hello Alice")
        assert await _until(alice, "bob: ") == "Hello Alice"
        await _say(alice, "/me A secret")
        assert await _until(alice, "alice (only you): ") == "A secret"
        await _say(alice, "No secret")
        assert await _until(bob, "alice: ") == "No secret", "the secret came not before"
        await _say(alice, "/private")
        await _until(bob, "A message was made private.")
        await _say(alice, "/public")
        assert await _until(bob, "alice: ") == "No secret"
        for process in (alice, bob):
            _, complaint = await process.communicate(b"")
            assert (process.returncode, complaint) == (0, b"")


async def test_logging_out_everywhere_ends_other_terminals(demo: int) -> None:
    async with asyncio.timeout(30), _chat(demo, "alice") as here, _chat(demo, "bob") as bob:
        await _until(here, "You are alice")
        await _until(bob, "You are bob")
        async with _chat(demo, "alice") as there:
            await _until(there, "You are alice")
            await _say(here, "/everywhere")
            for process in (here, there):
                await _until(process, "You have been logged out.")
                _, complaint = await process.communicate()
                assert (process.returncode, complaint) == (0, b"")
        await _say(bob, "Still here")
        await _until(bob, "bob: ")


async def test_a_terminal_outlasts_the_server_and_its_access_token(
    mongod: str, tripwire: Tripwire, roosts: StartRoost
) -> None:
    first = await start_roost(mongod, DEMO, tripwire=tripwire, example=installed())
    async with asyncio.timeout(45), _chat(first.port, "alice") as alice:
        await _until(alice, "You are alice")
        await _restart(first, roosts)
        await _until(alice, "You are back.")
        await _say(alice, "Still me")
        await _until(alice, "alice: ")
        _, complaint = await alice.communicate(b"")
        assert (alice.returncode, complaint) == (0, b"")


async def test_the_terminal_says_why_it_was_not_let_in(demo: int) -> None:
    async with asyncio.timeout(30), _chat(demo, "alice", app="nope") as stranger:
        _, complaint = await stranger.communicate(b"")

    assert stranger.returncode == 1
    assert "Unknown app 'nope'" in complaint.decode()


async def _restart(roost: Roost, roosts: StartRoost) -> None:
    """The server goes away, Acme's access tokens become worthless, and it comes back."""
    database = roost.settings.database
    await roost.stop()
    async with open_backend(roost.settings) as backend:
        await backend.keys.rotate("acme", 0.0)
    await roosts(DEMO, example=EXAMPLE, port=roost.port, database=database)


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


async def _until(process: asyncio.subprocess.Process, text: str) -> str:
    """Waits for a line that has the text; what follows it there."""
    assert process.stdout is not None
    while line := await process.stdout.readline():
        _, found, rest = line.decode().partition(text)
        if found:
            return rest.rstrip()
    pytest.fail(f"the chat ended before it said {text!r}")
