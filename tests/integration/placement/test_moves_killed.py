"""8.2.11, LIMITS T6: the command is killed at every step, and gone on with or taken back; a server dies during the freeze."""

from __future__ import annotations

import asyncio
import itertools
import signal
from typing import Any

import pytest

from hooks.errors import Conflict
from hooks.tenant import Placement
from server.main import Roost
from services.control.moves.copying import MARKS
from services.control.moves.entry import Entries
from services.control.nodes import LAST_COMMAND
from services.control.operations import SUCCEEDED
from services.control.sagas import FINALIZE, PROMOTE
from services.placement import meta
from services.placement.placements import SHARED
from tests.conftest import StartRoost
from tests.integration.placement.killing import CHANGES, LEASE, env_of, go_on, killed, moments
from tests.integration.placement.moving import (
    BACK,
    ON,
    THERE,
    TO,
    WAYS,
    Way,
    contents,
    ended,
    finalize,
    give_secret,
    move,
)
from tests.integration.placement.traffic import Traffic
from tests.integration.placement.watched import is_at, place_of, watched
from tests.integration.rules.people import keep, tenant_of
from tests.integration.server.command import serving
from tests.support.client import CallError, Client, connect, outcome, until
from tests.support.placed import cluster_settings

pytestmark = pytest.mark.shared_only("moves apps from the shared database over every other model and back")

APPS = """
tenants:
  - {id: moved, services: {notes: {rules: {default: public}}}}
  - {id: third, services: {notes: {rules: {default: public}}}}
  - {id: beside, placement: {model: database, cluster: far}, services: {notes: {rules: {default: public}}}}
"""
OLD = 300
SURELY = {
    *itertools.product(("change:freeze", "change:flip"), ("resume", "rollback"), (THERE,)),
    ("change:flip", "rollback", BACK),
}
"""Those of the usual run: nobody writes anywhere, on this side and on that. All others are run with `load`."""
MOMENTS = (*moments(PROMOTE), *(f"change:{name}" for name in CHANGES), "batch:")
"""All: of every step, of what the catalogue is told, and after the first records of the first collection."""
KILLS = [
    pytest.param(*case, marks=() if case in SURELY else pytest.mark.load, id="-".join(map(str, case)))
    for case in itertools.product(MOMENTS, ("resume", "rollback"), WAYS)
]
"""No combination is left out: before the flip a move is given up by a rollback, after it the data comes back."""
ENDS_SURELY = {
    ("after:purge-source", "resume", THERE),
    ("after:purge-source", "finalize", THERE),
    ("after:purge-source", "resume", BACK),
}
ENDS_KILLED = [
    pytest.param(*case, marks=() if case in ENDS_SURELY else pytest.mark.load, id="-".join(map(str, case)))
    for case in itertools.product(moments(FINALIZE), ("resume", "finalize"), WAYS)
]
"""What is being purged cannot be brought back: a rollback is refused, whereupon it is gone on with."""

BACK_KILLED = [
    pytest.param(*case, marks=pytest.mark.load, id="-".join(map(str, case)))
    for case in itertools.product(MOMENTS, (THERE, BACK))
]
"""Of the data that comes back: the place that it comes to has what the app had there once."""


@pytest.fixture
async def roost(roosts: StartRoost) -> Roost:
    """A server with an app that is moved, one in the shared database, and one with a database on the named cluster."""
    started = await roosts(APPS, **cluster_settings())
    for app_id, many in (("moved", OLD), ("third", 10), ("beside", 10)):
        await keep(started, app_id, "notes", *({"_id": f"old-{n}", "writer": "old", "n": n} for n in range(many)))
    return started


async def bring_to(roost: Roost, model: str) -> None:
    """Has the app at the place from which a test moves it."""
    if model != SHARED:
        await move(roost, "moved", model)
        await finalize(roost, "moved")


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("moment", "end", "way"), KILLS)
async def test_a_killed_move_is_gone_on_with_or_taken_back(
    roost: Roost, mongod: str, moment: str, end: str, way: Way
) -> None:
    """By the command alone, from what the killed one has left; then what is not the app's place is purged."""
    await roost.backend.control.runner.stop()
    await bring_to(roost, way.source)
    await give_secret(roost, "moved", way.target)
    source = await place_of(roost, "moved")
    async with watched(roost, mongod, source) as apps:
        await killed(roost, mongod, moment, *way.arguments)
        left = await roost.backend.control.operations.latest("moved")
        assert left is not None
        assert left.is_active
        await go_on(roost, mongod, f"--{end}")
        place = Placement(**left.data["target"]) if end == "resume" else source
        await is_at(roost, place)
        await finalize(roost, "moved")
        await apps.check(place)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("moment", "way"), BACK_KILLED)
async def test_a_killed_rollback_is_gone_on_with(roost: Roost, mongod: str, moment: str, way: Way) -> None:
    """What was written, changed and removed since the move is so at the old place; what was the new one is purged."""
    await roost.backend.control.runner.stop()
    await bring_to(roost, way.source)
    source = await place_of(roost, "moved")
    await move(roost, "moved", way.target)
    async with connect(roost, "moved") as ada:
        # Whether the server has heard that it may write there is not what the move has waited for.
        await until(lambda: is_taken(ada, "patch", "notes", "old-1", {"n": -1}, {}))
        await until(lambda: is_taken(ada, "remove", "notes", "old-2", {}))
    async with watched(roost, mongod, source) as apps:
        await killed(roost, mongod, moment, "--rollback")
        await go_on(roost, mongod, "--resume")
        await is_at(roost, source)
        await finalize(roost, "moved")
        await apps.check(source)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("moment", "way"), [("within:preflight", THERE), ("after:preflight", THERE), ("after:preflight", ON)], ids=str
)
async def test_a_rollback_killed_in_its_preflight_is_given_up(roost: Roost, mongod: str, moment: str, way: Way) -> None:
    """The app stays where it has moved to, and can be brought back after all; its old place is not served from."""
    await roost.backend.control.runner.stop()
    await bring_to(roost, way.source)
    source = await place_of(roost, "moved")
    await move(roost, "moved", way.target)
    place = await place_of(roost, "moved")
    async with watched(roost, mongod, source) as apps:
        await killed(roost, mongod, moment, "--rollback")
        await go_on(roost, mongod, "--rollback")
        await is_at(roost, place)
        if source.model != SHARED:
            tenant = await tenant_of(roost, "moved")
            async with roost.backend.placements.provider(source).administer(tenant, source) as handle:
                said = await meta.read(handle.raw)
            assert said is not None
            assert "moved_at" in said
        await go_on(roost, mongod, "--rollback")
        await is_at(roost, source)
        await finalize(roost, "moved")
        await apps.check(source)


@pytest.mark.timeout(180)
async def test_no_mark_is_left_by_a_killed_move_that_is_given_up(roost: Roost, mongod: str) -> None:
    await roost.backend.control.runner.stop()
    marks = roost.backend.deployment.client[roost.settings.database][MARKS]
    await killed(roost, mongod, "mark:", *THERE.arguments)
    assert await marks.count_documents({"app_id": "moved"}) == 1
    await marks.insert_one({"_id": {"a": "third", "i": "1"}, "app_id": "third"})

    await go_on(roost, mongod, "--rollback")
    await finalize(roost, "moved")
    counts = [await marks.count_documents({"app_id": app_id}) for app_id in ("moved", "third")]
    assert counts == [0, 1], "another app's is its own"


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("moment", "how", "way"), ENDS_KILLED)
async def test_a_killed_end_of_a_move_is_gone_on_with(
    roost: Roost, mongod: str, moment: str, how: str, way: Way
) -> None:
    """A rollback meanwhile is refused; nothing is left, and the app has all that it had."""
    await roost.backend.control.runner.stop()
    await bring_to(roost, way.source)
    source = await place_of(roost, "moved")
    await move(roost, "moved", way.target)
    place = await place_of(roost, "moved")
    async with watched(roost, mongod, source) as apps:
        await killed(roost, mongod, moment, "--finalize", "--now")
        with pytest.raises(Conflict):
            await roost.backend.moves.rollback("moved")
        if how == "resume":
            await go_on(roost, mongod, "--resume")
        else:
            left = await roost.backend.control.operations.latest("moved")
            assert left is not None
            assert (await ended(roost, left)).state == SUCCEEDED
        await apps.check(place)
    with pytest.raises(Conflict, match="finalized"):
        await roost.backend.moves.rollback("moved")


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
    ("is_killed", "way"),
    [
        pytest.param(
            is_killed,
            way,
            id=f"{'killed' if is_killed else 'stopped for a while'}-{way}",
            marks=pytest.mark.load if is_killed or way != THERE else (),
        )
        for is_killed, way in itertools.product((True, False), WAYS)
    ],
)
async def test_a_server_that_is_silent_during_the_freeze(roost: Roost, mongod: str, is_killed: bool, way: Way) -> None:
    """Writes do not stand still for a dead server; and one that comes back writes nothing where the data was."""
    await bring_to(roost, way.source)
    await give_secret(roost, "moved", way.target)
    source = await place_of(roost, "moved")
    async with serving(env=env_of(roost, mongod)) as other, connect(other, "moved") as there:
        await there.call("create", "notes", {"_id": "before"}, {})
        await until(lambda: nodes_of(roost, 2))
        async with Traffic(roost, ("moved", "third"), rate=40, each=1) as traffic:
            other.process.send_signal(signal.SIGSTOP)
            moved = await roost.backend.moves.promote("moved", TO[way.target])
            if is_killed:
                other.process.kill()
            done = await ended(roost, moved)
            assert done.error is None
            await traffic.end()
            stored = {app: (await contents(roost, app))["notes"] for app in ("moved", "third")}
            for app, records in stored.items():
                stored[app] = [record for record in records if record.get("writer") not in ("old", None)]
            traffic.check(stored)
            # Tried once while the server was expected to answer, and again when its lease was over.
            assert traffic.longest("moved") <= 2.0 + 1.5
            assert done.notes["switched"]["pause"] <= 2.0
        if not is_killed:
            other.process.send_signal(signal.SIGCONT)
            await until(lambda: is_taken(there, "create", "notes", {"_id": "after"}, {}), LEASE + LAST_COMMAND)
            left = roost.backend.placements.provider(source)
            async with left.administer(await tenant_of(roost, "moved"), source) as handle:
                assert await handle.raw["notes"].count_documents({"_id": {"a": "moved", "i": "before"}}) == 1
                assert await handle.raw["notes"].count_documents({"_id": {"a": "moved", "i": "after"}}) == 0
            assert any(record["_id"]["i"] == "after" for record in (await contents(roost, "moved"))["notes"])


async def is_taken(client: Client, *call: Any) -> bool:
    """Whether a call went well."""
    return not isinstance(await outcome(client, *call), CallError)


async def nodes_of(roost: Roost, count: int) -> bool:
    return len(await roost.backend.nodes.all()) == count
