"""8.2.11, LIMITS T6: the command is killed at every step, and gone on with or taken back; a server dies during the freeze."""

from __future__ import annotations

import asyncio
import signal

import pytest

from hooks.errors import Conflict
from hooks.tenant import Placement
from server.main import Roost
from services.control.moves.entry import Entries
from services.control.nodes import LAST_COMMAND
from services.control.operations import SUCCEEDED
from services.control.sagas import FINALIZE, PROMOTE
from tests.conftest import StartRoost
from tests.integration.placement.killing import CHANGES, LEASE, env_of, go_on, killed, moments
from tests.integration.placement.moving import TO, contents, ended, finalize, move
from tests.integration.placement.traffic import Traffic
from tests.integration.rules.people import keep
from tests.integration.server.command import serving
from tests.support.client import CallError, connect, outcome, until
from tests.support.placed import NAMED, cluster_settings

APPS = """
tenants:
  - {id: moved, services: {notes: {rules: {default: public}}}}
  - {id: third, services: {notes: {rules: {default: public}}}}
"""
SURELY = ("change:freeze", "change:flip")
"""The moments of the usual run: nobody writes anywhere, on this side and on that. All others are run with `load`."""
MOMENTS = (*moments(PROMOTE), *(f"change:{name}" for name in CHANGES), "batch:")
"""All: of every step, of what the catalogue is told, and after the first records of the first collection."""
KILLS = [
    pytest.param(moment, end, marks=() if moment in SURELY else pytest.mark.load)
    for moment in MOMENTS
    for end in ("resume", "rollback")
]
"""No combination is left out: before the flip a move is given up by a rollback, after it the data comes back."""
ENDS_KILLED = [
    pytest.param(moment, how, marks=() if moment == "after:purge-source" else pytest.mark.load)
    for moment in moments(FINALIZE)
    for how in ("resume", "finalize")
]
"""What is being purged cannot be brought back: a rollback is refused, whereupon it is gone on with."""


@pytest.fixture
async def roost(roosts: StartRoost, mongod: str) -> Roost:
    started = await roosts(APPS, node_lease=LEASE, **cluster_settings())
    await keep(started, "moved", "notes", *({"_id": f"old-{n}", "writer": "old", "n": n} for n in range(300)))
    return started


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("moment", "end"), KILLS)
async def test_a_killed_move_is_gone_on_with_or_taken_back(roost: Roost, mongod: str, moment: str, end: str) -> None:
    """By the command alone, from what the killed one has left; then what is not the app's place is purged."""
    await roost.backend.control.runner.stop()
    async with Traffic(roost, ("moved", "third"), rate=40, each=1) as traffic:
        await killed(roost, mongod, moment, "--to", "database", "--cluster", NAMED)
        left = await roost.backend.control.operations.latest("moved")
        assert left is not None
        assert left.is_active
        await go_on(roost, mongod, f"--{end}")
        await is_at(roost, "database" if end == "resume" else "shared")
        await traffic.end()
        stored = {app: (await contents(roost, app))["notes"] for app in ("moved", "third")}
        assert sum(record["writer"] == "old" for record in stored["moved"]) == 300
        stored["moved"] = [record for record in stored["moved"] if record["writer"] != "old"]
        traffic.check(stored)
        assert sum(writer.refused for writer in traffic.writers["third"]) == 0
    target = Placement(**left.data["target"])
    await finalize(roost, "moved")
    tenant = await roost.backend.tenants.get("moved")
    assert tenant is not None
    async with roost.backend.placements.provider(target).administer(tenant, target) as there:
        assert (target.database in await there.deployment.client.list_database_names()) == (end == "resume")
    if end == "resume":
        shared = roost.backend.deployment.client[roost.settings.database]
        assert await shared["notes"].count_documents({"app_id": "moved"}) == 0


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("moment", "how"), ENDS_KILLED)
async def test_a_killed_end_of_a_move_is_gone_on_with(roost: Roost, mongod: str, moment: str, how: str) -> None:
    """A rollback meanwhile is refused; nothing is left, and the app has all that it had."""
    await roost.backend.control.runner.stop()
    await move(roost, "moved", "database")
    before = await contents(roost, "moved")
    await killed(roost, mongod, moment, "--finalize", "--now")
    with pytest.raises(Conflict):
        await roost.backend.moves.rollback("moved")
    if how == "resume":
        await go_on(roost, mongod, "--resume")
    else:
        left = await roost.backend.control.operations.latest("moved")
        assert left is not None
        assert (await ended(roost, left)).state == SUCCEEDED
    await is_at(roost, "database")
    assert (await contents(roost, "moved"))["notes"] == before["notes"]
    shared = roost.backend.deployment.client[roost.settings.database]
    assert await shared["notes"].count_documents({"app_id": "moved"}) == 0
    with pytest.raises(Conflict, match="finalized"):
        await roost.backend.moves.rollback("moved")


async def is_at(roost: Roost, model: str) -> None:
    """The app is where it is to be, and is written."""
    tenant = await roost.backend.tenants.get("moved")
    assert tenant is not None
    assert (tenant.status, tenant.frozen, tenant.placement.model) == ("ready", False, model)


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
