"""8.2.11, MG-4, MG-5: an app's data is moved between the isolation models while the app goes on working."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import bson
import pytest
from bson import MaxKey
from bson.raw_bson import RawBSONDocument

from hooks.context import Params, Record
from hooks.errors import BadRequest, Conflict, Unavailable
from server.main import Roost
from services.control.moves import copying
from services.control.moves.copying import Pair, encoded
from services.control.moves.moves import Destination
from services.users import grant
from tests.conftest import StartRoost
from tests.integration.placement.moving import TO, contents, ended, finalize, move
from tests.integration.rules.people import keep, make_user, tenant_of
from tests.support.client import CallError, Client, connect, outcome, until
from tests.support.placed import cluster_settings, raw

pytestmark = pytest.mark.shared_only("moves apps from the shared database over every other model and back")


@pytest.fixture
async def roost(roosts: StartRoost) -> Roost:
    """A server that knows the other cluster, with a user and some records in both apps."""
    started = await roosts(**cluster_settings())
    for app_id, name in (("acme", {"username": "ada"}), ("globex", {"email": "ada@globex.example"})):
        data = {**name, "password": "secret-123"}
        await started.app.call("users", "create", Params(tenant=await tenant_of(started, app_id)), data=data)
        await keep(started, app_id, "notes", *({"_id": f"note-{n}", "text": "x" * n, "n": n} for n in range(450)))
        await keep(started, app_id, "messages", {"text": "one", "n": 2**40, "deep": {"b": [1.5, None], "a": True}})
    return started


async def test_a_move_there_and_back_changes_nothing_but_the_place(roost: Roost) -> None:
    """Shared -> database -> cluster -> shared: the records are the same bytes, the socket stays, the login too."""
    before, others = await contents(roost, "acme"), await contents(roost, "globex")
    assert len(before["notes"]) == 450
    async with connect(roost, "acme") as ada:
        await ada.login("ada")
        for model in ("database", "cluster", "shared"):
            moved = await move(roost, "acme", model)
            assert moved.notes["evidence"]["notes"]["documents"] == 450
            assert len(moved.notes["evidence"]["notes"]["hash"]) == 64
            tenant = await tenant_of(roost, "acme")
            assert (tenant.placement.model, tenant.status) == (model, "ready")
            after = await contents(roost, "acme")
            assert {name: after[name] for name in before if name != "sessions"} == {
                name: before[name] for name in before if name != "sessions"
            }
            assert (await ada.call("get", "notes", "note-7", {}))["n"] == 7
            made = await ada.call("create", "notes", {"text": model}, {})
            await ada.call("remove", "notes", made["_id"], {})
            done = await finalize(roost, "acme")
            assert done.notes["purged"] > 450
            assert done.notes["proof"]["left"] == 0
        assert ada.connected
        assert (await ada.call("find", "messages", {}))["total"] == 1
    assert await contents(roost, "globex") == others
    # An app that has not all of the services that others have in the shared database.
    await move(roost, "globex", "database")
    assert (await contents(roost, "globex"))["notes"] == others["notes"]


async def test_until_it_is_finalized_a_move_is_taken_back_with_all_that_is_new(roost: Roost) -> None:
    tenant = await tenant_of(roost, "acme")
    await move(roost, "acme", "database")
    there = (await tenant_of(roost, "acme")).placement
    async with connect(roost, "acme") as ada:
        await ada.call("create", "notes", {"_id": "new", "text": "made there"}, {})
        await ada.call("patch", "notes", "note-1", {"text": "changed there"}, {})
        await ada.call("remove", "notes", "note-2", {})
        back = await roost.backend.moves.rollback("acme")
        assert back is not None
        assert (await ended(roost, back)).error is None
        assert (await tenant_of(roost, "acme")).placement == tenant.placement
        assert (await ada.call("get", "notes", "new", {}))["text"] == "made there"
        assert (await ada.call("get", "notes", "note-1", {}))["text"] == "changed there"
        assert (await outcome(ada, "get", "notes", "note-2", {})).code == 404
    await finalize(roost, "acme")
    provider = roost.backend.placements.provider(there)
    async with provider.administer(tenant, there) as handle:
        assert there.database not in await handle.deployment.client.list_database_names()


async def test_what_cannot_be_moved_is_said_before_anything_is_changed(roost: Roost) -> None:
    moves, before = roost.backend.moves, await tenant_of(roost, "acme")
    for wanted, error in (
        (Destination("shared"), BadRequest),
        (Destination("d1"), BadRequest),
        (Destination("database", "nowhere"), Unavailable),
        (Destination("cluster", credential="none"), Unavailable),
    ):
        with pytest.raises(error):
            await moves.plan("acme", wanted)
    with pytest.raises(BadRequest, match="control plane"):
        await moves.plan(roost.settings.control_plane, TO["database"])
    for ask in (moves.rollback, moves.finalize, moves.resume):
        with pytest.raises(Conflict):
            await ask("acme")
    target, weight = await moves.plan("acme", TO["database"])
    assert weight.collections["notes"] == 450
    assert weight.documents >= 452
    assert await tenant_of(roost, "acme") == before
    async with roost.backend.placements.provider(target).administer(before, target) as handle:
        assert target.database not in await handle.deployment.client.list_database_names()


async def test_one_move_at_a_time_and_its_leftovers_first(roost: Roost) -> None:
    first = await roost.backend.moves.promote("acme", TO["database"])
    with pytest.raises(Conflict):
        await roost.backend.moves.promote("acme", TO["database"])
    assert (await ended(roost, first)).error is None
    with pytest.raises(Conflict, match="finalize"):
        await roost.backend.moves.promote("acme", Destination("shared"))
    with pytest.raises(Conflict, match="--now"):
        await roost.backend.moves.finalize("acme")


async def test_records_that_swap_unique_values_meanwhile_are_moved(roost: Roost) -> None:
    """What a unique index of the target refuses in between is settled at the end."""
    tenant = await tenant_of(roost, "acme")
    users = roost.backend.isolation.collection(tenant, "users")
    one, two = [await make_user(roost, "acme", name) for name in ("eve", "zoe")]
    operation = await roost.backend.moves.promote("acme", TO["database"])
    # Swapped behind the copy, or before it: whichever is first, the target meets a name twice.
    for chosen, name in ((one, "middle"), (two, "eve"), (one, "zoe")):
        await users.find_one_and_update({"_id": chosen["_id"]}, {"$set": {"username": name, "username_key": name}})
    assert (await ended(roost, operation)).error is None
    kept = roost.backend.isolation.collection(await tenant_of(roost, "acme"), "users")
    assert {record["username"] for record in await kept.find({"_id": {"$in": [one["_id"], two["_id"]]}})} == {
        "eve",
        "zoe",
    }
    [found] = await kept.find({"username_key": "zoe"})
    assert found["_id"] == one["_id"]


async def test_what_a_target_cannot_hold_ends_the_move_and_not_the_app(roosts: StartRoost) -> None:
    """Back into the shared database, where another app's unique index stands in the way: the app stays where it is."""
    declared = """
tenants:
  - id: acme
    services: {things: {rules: {default: public}}}
  - id: globex
    services: {things: {unique: [[code]], rules: {default: public}}}
"""
    roost = await roosts(declared, **cluster_settings())
    await move(roost, "acme", "database")
    await finalize(roost, "acme")
    await keep(roost, "acme", "things", {"code": "same"}, {"code": "same"})
    operation = await roost.backend.moves.promote("acme", TO["shared"])
    for _ in range(200):
        found = await roost.backend.control.operations.get(operation.id)
        if found is not None and found.error is not None:
            break
        await asyncio.sleep(0.05)
    assert found is not None
    assert found.error is not None
    assert "unique index" in found.error["message"]
    async with connect(roost, "acme") as ada:
        await ada.call("create", "things", {"code": "other"}, {})
    async with asyncio.timeout(20):
        while found is not None and found.is_active:
            try:
                assert await roost.backend.moves.rollback("acme") is None
                break
            except Conflict:
                await asyncio.sleep(0.1)
    tenant = await roost.backend.tenants.get("acme")
    assert tenant is not None
    assert (tenant.placement.model, tenant.status) == ("database", "ready")
    await finalize(roost, "acme")
    async with raw(roost, "globex") as shared:
        assert await shared["things"].count_documents({"app_id": "acme"}) == 0


async def test_a_small_app_beside_a_giant_is_moved_without_a_look_at_it(roost: Roost) -> None:
    """MG-3: one app has a thousand times as many records as another; the small one's move reads its own."""
    database = roost.backend.deployment.client[roost.settings.database]
    giants = [{"_id": {"a": "globex", "i": f"g{n}"}, "app_id": "globex", "n": n} for n in range(4000)]
    await database["papers"].insert_many(giants)
    few = [{"_id": {"a": "acme", "i": f"s{n}"}, "app_id": "acme", "n": n} for n in range(4)]
    await database["papers"].insert_many(few)
    await database["papers"].create_index([("app_id", 1), ("_id", 1)], name="app_id_1__id_1")
    pair = Pair("acme", database, database)
    command = {"find": "papers", "filter": pair._range({"a": "acme"}, {"a": "acme", "i": MaxKey()}), "sort": {"_id": 1}}
    plan = await database.command({"explain": command, "verbosity": "executionStats"})
    assert plan["executionStats"]["totalDocsExamined"] <= 4
    assert plan["executionStats"]["totalKeysExamined"] <= 5
    moved = await move(roost, "acme", "database")
    assert moved.notes["evidence"]["papers"]["documents"] == 4
    assert moved.notes["estimate"]["collections"]["papers"] == 4


async def test_large_records_are_moved_a_few_at_a_time(roost: Roost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every resource is bounded: what is read at a time has so many bytes, and everything arrives all the same."""
    monkeypatch.setattr(copying, "BATCH_BYTES", 1000)
    source = roost.backend.deployment.client[roost.settings.database]
    target = roost.backend.deployment.client[f"{roost.settings.database}_control"]
    papers: list[Any] = [
        {"_id": {"a": "acme", "i": f"p{n:02}"}, "app_id": "acme", "text": "x" * 400} for n in range(30)
    ]
    await source["papers"].insert_many(papers)
    await target["papers"].insert_one({"_id": {"a": "acme", "i": "p99"}, "app_id": "acme"})
    pair = Pair("acme", source, target)
    pages = [len(documents) async for documents, _ in pair._side_by_side("papers")]
    assert sum(pages) == 30
    assert max(pages) == 3
    assert await pair.differences("papers") == 31
    gone = encoded(RawBSONDocument(bson.encode({"a": "acme", "i": "p98"})))
    some = [encoded(RawBSONDocument(bson.encode(paper["_id"]))) for paper in papers[::2]]
    assert await pair.differences("papers", [gone, *some]) == 15
    await pair.copy("papers", [gone, *some])
    assert await target["papers"].count_documents({"app_id": "acme"}) == 16
    compared = await pair.make_equal("papers")
    assert (compared.documents, compared.mended) == (30, 16)
    assert await target["papers"].find(sort=[("_id", 1)]).to_list() == papers
    await target["papers"].drop()


async def test_a_report_says_which_apps_are_heavy(roost: Roost) -> None:
    """MG-2: by records and bytes, the heaviest first; above the threshold a move is proposed."""
    heavy = await roost.backend.moves.weigh(above=400)
    assert [weighed.app_id for weighed in heavy][:2] in (["acme", "globex"], ["globex", "acme"])
    by_id = {weighed.app_id: weighed for weighed in heavy}
    assert by_id["acme"].estimate.documents >= 452
    assert by_id["acme"].is_proposed
    assert not by_id[roost.settings.control_plane].is_proposed
    await move(roost, "acme", "database")
    again = {weighed.app_id: weighed for weighed in await roost.backend.moves.weigh(above=400)}
    assert (again["acme"].model, again["acme"].is_proposed) == ("database", False)


async def test_live_logins_follow_their_user_wherever_the_app_is(roosts: StartRoost) -> None:
    """What happens to users and sessions is heard at each place in turn; what a move has left behind is no news."""
    declared = """
tenants:
  - id: acme
    services: {notes: {rules: {default: {permission: write}}}}
"""
    roost = await roosts(declared, **cluster_settings())
    await make_user(roost, "acme", "ada")
    async with connect(roost, "acme") as ada:
        await ada.login("ada")
        for number, model in enumerate(("shared", "database", "cluster", "shared")):
            if number:
                source = (await tenant_of(roost, "acme")).placement
                await move(roost, "acme", model)
                async with roost.backend.placements.provider(source).administer(
                    await tenant_of(roost, "acme"), source
                ) as left:
                    await left.raw["sessions"].delete_many({"app_id": "acme"})
            tenant = await roost.backend.tenants.get("acme")
            assert tenant is not None
            for withdraw, expected in ((False, 0), (True, 403)):
                # As another process does it: no call of this one tells of it.
                await grant(roost.backend.isolation, tenant, "ada", "write", withdraw=withdraw)
                await until(partial(answers, ada, expected))
            if number:
                await finalize(roost, "acme")
        assert ada.connected


async def answers(client: Client, code: int) -> bool:
    answer = await outcome(client, "create", "notes", {}, {})
    return (answer.code if isinstance(answer, CallError) else 0) == code


async def test_managers_move_apps_by_operations(roost: Roost) -> None:
    """MG-4: promote, rollback and finalize by the service `tenant-operations`, with the evidence in its notes."""
    plane = Params(tenant=await tenant_of(roost, roost.settings.control_plane))

    async def ask(**data: str) -> Record:
        made = await roost.app.call("tenant-operations", "create", plane, data={"tenant_id": "acme", **data})
        found: Record = made.result
        return found

    async def over(id: str) -> Record:
        operation = await roost.backend.control.operations.get(id)
        assert operation is not None
        assert (await ended(roost, operation)).error is None
        found: Record = (await roost.app.call("tenant-operations", "get", plane, id=id)).result
        return found

    for data in ({"kind": "promote"}, {"kind": "promote", "to": "d1"}, {"kind": "finalize", "to": "shared"}):
        with pytest.raises(BadRequest):
            await ask(**data)
    done = await over((await ask(kind="promote", to="database", cluster="far"))["_id"])
    assert done["notes"]["evidence"]["notes"]["documents"] == 450
    assert "token" not in done["notes"]
    await over((await ask(kind="rollback"))["_id"])
    with pytest.raises(Conflict, match="--now"):
        await ask(kind="finalize")
    purged = await over((await ask(kind="finalize", confirm="acme"))["_id"])
    assert purged["notes"]["proof"]["left"] == 0
    assert (await tenant_of(roost, "acme")).placement.model == "shared"
