"""8.2.11, LIMITS T6: the command is killed at every step, and gone on with or taken back; a server dies during the freeze."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from server.main import Roost
from services.control.moves.entry import Entries
from services.control.nodes import LAST_COMMAND
from services.control.sagas import ORDER, PROMOTE
from tests.conftest import StartRoost
from tests.integration.placement.moving import TO, contents, ended
from tests.integration.placement.traffic import Traffic
from tests.integration.rules.people import keep
from tests.integration.server.command import ROOT, environment, serving
from tests.support.client import CallError, connect, outcome, until
from tests.support.placed import CLUSTERS, NAMED, cluster_settings

APPS = """
tenants:
  - {id: moved, services: {notes: {rules: {default: public}}}}
  - {id: third, services: {notes: {rules: {default: public}}}}
"""
COMMAND = """
import sys
from services.control import operations, runner
operations.LEASE_MS = runner.LEASE_MS = 1000
from server.cli import cli
cli()
"""
"""The command as it is, but for a shorter lease: what a killed one has left is taken up a second later."""
LEASE = 2.0
KILLS = (
    pytest.param("frozen", "resume"),
    pytest.param("switch", "rollback"),
    *(
        pytest.param(step, end, marks=pytest.mark.load)
        for step in ("preflight", "mark", "copy", "follow", "switch", "frozen", "retain")
        for end in ("resume", "rollback")
        if (step, end) not in {("frozen", "resume"), ("switch", "rollback")}
    ),
)


@pytest.fixture
async def roost(roosts: StartRoost, mongod: str) -> Roost:
    started = await roosts(APPS, node_lease=LEASE, **cluster_settings())
    await keep(started, "moved", "notes", *({"_id": f"old-{n}", "writer": "old", "n": n} for n in range(300)))
    return started


def env_of(roost: Roost, mongod: str) -> dict[str, str]:
    """The variables of another process of the same server."""
    clusters = json.dumps({NAMED: CLUSTERS.uri(NAMED)})
    own = environment(mongod, roost.settings.database, ROOST_CLUSTERS=clusters, ROOST_NODE_LEASE=str(LEASE))
    return {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | own


@asynccontextmanager
async def command(roost: Roost, mongod: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`tenants promote moved ...` in a process of its own, which is ended with the block."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", COMMAND, "tenants", "promote", "moved", *arguments),
        cwd=ROOT,
        env=env_of(roost, mongod),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def killed_at(roost: Roost, mongod: str, step: str) -> None:
    """Begins a move, and kills the command when it has come to a step, or while writes stand still."""
    async with command(roost, mongod, "--to", "database", "--cluster", NAMED, "--rate", "1500") as process:
        async with asyncio.timeout(30):
            if step == "frozen":
                await until(lambda: is_frozen(roost), 30)
            else:
                assert process.stdout is not None
                # A quick step may be over before it is told of.
                awaited = ORDER[PROMOTE][ORDER[PROMOTE].index(step) :]
                while line := (await process.stdout.readline()).decode():
                    if line.split(" ")[0].strip() in awaited:
                        break
        with contextlib.suppress(ProcessLookupError):  # The last step is quick: it may be over.
            process.kill()


async def is_frozen(roost: Roost) -> bool:
    tenant = await roost.backend.tenants.get("moved")
    return tenant is not None and tenant.frozen


async def go_on(roost: Roost, mongod: str, how: str) -> str:
    """Goes on or back by the command, until it is done: a server may be faster in taking the move up."""
    async with asyncio.timeout(60):
        while True:
            async with command(roost, mongod, f"--{how}") as process:
                out, err = await process.communicate()
                if process.returncode == 0:
                    return out.decode()
                assert process.returncode == 1, err.decode()
            await asyncio.sleep(0.2)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("step", "end"), KILLS)
async def test_a_killed_move_is_gone_on_with_or_taken_back(roost: Roost, mongod: str, step: str, end: str) -> None:
    async with Traffic(roost, ("moved", "third"), rate=40, each=1) as traffic:
        await killed_at(roost, mongod, step)
        await go_on(roost, mongod, end)
        operations = roost.backend.control.operations
        latest = await operations.latest("moved")
        assert latest is not None
        await ended(roost, latest)
        tenant = await roost.backend.tenants.get("moved")
        assert tenant is not None
        assert (tenant.status, tenant.frozen) == ("ready", False)
        assert tenant.placement.model == ("database" if end == "resume" else "shared")
        await traffic.end()
        stored = {app: (await contents(roost, app))["notes"] for app in ("moved", "third")}
        assert sum(record["writer"] == "old" for record in stored["moved"]) == 300
        stored["moved"] = [record for record in stored["moved"] if record["writer"] != "old"]
        traffic.check(stored)
        assert sum(writer.refused for writer in traffic.writers["third"]) == 0


async def test_a_process_that_ends_between_the_flip_and_the_opening(
    roost: Roost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The data is at the target, and nobody writes: going on opens the app there."""
    flipped = asyncio.Event()

    async def hang(*_: object) -> None:
        flipped.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(Entries, "open", hang)
        operation = await roost.backend.moves.promote("moved", TO["database"])
        async with asyncio.timeout(30):
            await flipped.wait()
        await roost.backend.control.runner.stop()
    tenant = await roost.backend.tenants.get("moved")
    assert tenant is not None
    assert (tenant.frozen, tenant.placement.model) == (True, "database")
    async with connect(roost, "moved") as ada:
        assert (await ada.call("get", "notes", "old-1", {}))["n"] == 1
        assert (await outcome(ada, "create", "notes", {}, {})).data == {"reason": "TenantMigrating", "retry_after": 1}
        assert (await ended(roost, await roost.backend.moves.resume("moved"))).id == operation.id
        await ada.call("create", "notes", {"_id": "new"}, {})
    assert [record["_id"]["i"] for record in (await contents(roost, "moved"))["notes"]].count("new") == 1


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "is_killed",
    [pytest.param(True, id="killed", marks=pytest.mark.load), pytest.param(False, id="stopped for a while")],
)
async def test_a_server_that_is_silent_during_the_freeze(roost: Roost, mongod: str, is_killed: bool) -> None:
    """Writes do not stand still for a dead server; and one that comes back writes nothing where the data was."""
    source = await roost.backend.tenants.get("moved")
    assert source is not None
    async with serving(env=env_of(roost, mongod)) as other, connect(other, "moved") as there:
        await there.call("create", "notes", {"_id": "before"}, {})
        await until(lambda: nodes_of(roost, 2))
        async with Traffic(roost, ("moved", "third"), rate=40, each=1) as traffic:
            other.process.send_signal(signal.SIGSTOP)
            moved = await roost.backend.moves.promote("moved", TO["database"])
            if is_killed:
                other.process.kill()
            done = await ended(roost, moved)
            assert done.error is None
            await traffic.end()
            stored = {app: (await contents(roost, app))["notes"] for app in ("moved", "third")}
            known = ("old", None)
            stored["moved"] = [record for record in stored["moved"] if record.get("writer") not in known]
            traffic.check(stored)
            # Tried once while the server was expected to answer, and again when its lease was over.
            assert traffic.longest("moved") <= 2.0 + 1.5
            assert done.notes["switched"]["pause"] <= 2.0
        if not is_killed:
            other.process.send_signal(signal.SIGCONT)

            async def is_taken() -> bool:
                return not isinstance(await outcome(there, "create", "notes", {"_id": "after"}, {}), CallError)

            await until(is_taken, LEASE + LAST_COMMAND)
            shared = roost.backend.deployment.client[roost.settings.database]["notes"]
            assert await shared.count_documents({"_id": {"a": "moved", "i": "after"}}) == 0
            assert any(record["_id"]["i"] == "after" for record in (await contents(roost, "moved"))["notes"])


async def nodes_of(roost: Roost, count: int) -> bool:
    return len(await roost.backend.nodes.all()) == count
