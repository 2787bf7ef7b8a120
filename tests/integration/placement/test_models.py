"""DB-1 to DB-6: apps of each isolation model on one server, and what keeps their databases apart."""

from __future__ import annotations

import asyncio
import gc
import re

import pytest
import yaml

from hooks.context import Params
from hooks.errors import Unavailable
from hooks.tenant import Placement, Tenant
from server.backend import StartError
from server.main import Roost
from services.control.snapshot import to_tenant
from services.declaration import Declaration, parse
from services.declaration.placement import PlacementDeclaration
from services.placement.clients import OWN
from services.placement.provider import Handle
from tests.conftest import StartRoost
from tests.integration.rules.people import tenant_of
from tests.support.client import CallError, Client, connect, outcome, until
from tests.support.placed import CLUSTERS, NAMED, OWN_URI, cluster_settings, placement, raw
from tests.support.roost import TWO_APPS

pytestmark = pytest.mark.shared_only("names the models of its apps itself, and sets them side by side")

DEDICATED = ("database", "cluster")


async def test_an_app_works_as_ever_in_a_database_of_its_own(roosts: StartRoost) -> None:
    """DB-1, MG-5: services, users, logins, events and searches do not know where the data is."""
    for model in DEDICATED:
        roost = await roosts(model=model)
        async with connect(roost, "acme") as ada, connect(roost, "globex") as other:
            await ada.call("create", "users", {"username": "ada", "password": "secret-123"}, {})
            await ada.login("ada")
            await ada.take_events()
            kept = await ada.call("create", "messages", {"text": "kept", "n": 1}, {})
            assert (await ada.next_event()).record == kept
            assert (await ada.call("find", "messages", {"n": {"$gte": 1}}))["total"] == 1
            assert await ada.call("patch", "messages", kept["_id"], {"n": 2}, {}) == {**kept, "n": 2}
            assert (await outcome(other, "find", "notes", {})) == []
            assert (await outcome(other, "get", "notes", kept["_id"], {})).code == 404
        tenant = await tenant_of(roost, "acme")
        assert re.fullmatch(r"t_acme_[0-9a-f]{6}", tenant.placement.database)
        async with raw(roost, "acme") as database:
            assert await database["messages"].count_documents({"app_id": "acme"}) == 1
            assert (await database["_meta"].find_one({}))["app_id"] == "acme"
        shared = roost.backend.deployment.client[roost.settings.database]
        assert await shared["messages"].count_documents({"app_id": "acme"}) == 0


async def test_where_new_apps_are_that_name_no_place(roosts: StartRoost) -> None:
    """DB-1: the setting is for apps of the file and of the services; one that names a place is there, and so is the past."""
    own = PlacementDeclaration(model="database", cluster=NAMED)
    first = await roosts(**cluster_settings())
    text = TWO_APPS + "  - {id: named, placement: {model: shared}}\n  - {id: fresh}\n"
    second = await roosts(text, database=first.settings.database, placement=own, **cluster_settings())
    made = await second.backend.control.lifecycle.create(parse("tenants: [{id: served}]").tenants[0])
    assert made.state == "succeeded"
    for id, model in {"acme": "shared", "named": "shared", "fresh": "database", "served": "database"}.items():
        assert (await tenant_of(second, id)).placement.model == model
    assert (await tenant_of(second, "control_plane")).placement.model == "shared"
    assert (await tenant_of(second, "served")).placement.cluster == NAMED


async def test_sockets_that_come_and_go_leave_no_connections_behind(roosts: StartRoost) -> None:
    """DB-5: what follows the records of an app on a cluster of its own begins and ends with the app's sockets."""

    def following() -> int:
        return sum(task.get_name() == "changes" for task in asyncio.all_tasks())

    roost = await roosts(model="cluster")
    before = following()
    for _ in range(20):
        async with connect(roost, "acme"):
            pass
    await until(lambda: following() == before)
    # A socket that nobody has closed says so now, which fails the test.
    gc.collect()


async def test_new_apps_cannot_be_where_there_is_no_place(roosts: StartRoost) -> None:
    with pytest.raises(StartError, match="ROOST_PLACEMENT: There is no cluster 'nowhere'"):
        await roosts(placement=PlacementDeclaration(model="database", cluster="nowhere"))


async def test_a_database_of_its_own_is_guarded_like_the_shared_one(roosts: StartRoost) -> None:
    """RE-5, GU-1: validators and indexes that start with the tenant are there as well."""
    roost = await roosts(model="database")
    async with raw(roost, "acme") as own:
        shared = roost.backend.deployment.client[roost.settings.database]
        for name in ("users", "sessions", "messages", "audit_log"):
            options = await (await own.list_collections(filter={"name": name})).to_list()
            assert options[0]["options"]["validationAction"] == "error"
            if name != "messages":
                expected = {*(await shared[name].index_information())}
                assert {*(await own[name].index_information())} == expected
        for index in (await own["users"].index_information()).values():
            assert index["key"][0][0] in ("_id", "app_id")


async def test_the_wrong_database_is_refused(roosts: StartRoost) -> None:
    """DB-6, DB-3: a catalogue that names another tenant's database opens nothing, least of all the shared database."""
    roost = await roosts(model="database")
    other = (await tenant_of(roost, "globex")).placement
    await point(roost, "acme", other)
    async with connect(roost, "acme") as ada:
        assert await is_unavailable(ada)
        await point(roost, "acme", Placement("database", NAMED, "t_acme_ffffff"))
        assert await is_unavailable(ada)
        await point(roost, "acme", Placement("database", "nowhere", other.database))
        assert await is_unavailable(ada)
        await point(roost, "acme", Placement("d1", "default", other.database))
        assert await is_unavailable(ada)
        await point(roost, "acme", Placement("cluster", "default", other.database, "no-such-secret"))
        assert await is_unavailable(ada)
        await point(roost, "acme", Placement("shared", "default", "elsewhere"))
        provider = roost.backend.placements.provider(Placement())
        with pytest.raises(Unavailable):
            async with provider.handle(await tenant_of(roost, "acme"), Placement(database="elsewhere")):
                pass
    await point(roost, "acme", Placement(database=roost.settings.database))


async def point(roost: Roost, app_id: str, placement: Placement) -> None:
    """Has the catalogue say that the app is somewhere else, by no move of its data."""
    tenants = roost.backend.deployment.client[f"{roost.settings.database}_control"]["tenants"]
    place = {name: getattr(placement, name) for name in placement.__slots__}
    await tenants.update_one({"_id": app_id}, {"$set": {"placement": place}, "$inc": {"epoch": 1}})

    async def is_known() -> bool:
        tenant = await roost.catalogue.get(app_id)
        return tenant is not None and tenant.placement == placement

    await until(is_known)


async def is_unavailable(client: Client) -> bool:
    answer = await outcome(client, "find", "notes", {})
    return isinstance(answer, CallError) and answer.wire.get("data") == {"reason": "TenantDatabaseUnavailable"}


@pytest.mark.usefixtures("left_by_the_driver")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_cluster_that_is_down_is_the_trouble_of_its_own_apps(roosts: StartRoost) -> None:
    """DB-3, TC-13: the other apps do not notice, and the app comes back by itself."""
    declared = parse(TWO_APPS)
    roost = await roosts(**cluster_settings())
    acme = declared.tenants[0].model_copy(update={"id": "remote", "placement": placement("cluster")})
    await roost.backend.apply(Declaration(tenants=(acme,)))
    await roost.backend.secrets.put("remote", "mongodb", "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100")
    async with connect(roost, "remote") as far, connect(roost, "globex") as near:

        async def is_down() -> bool:
            return await is_unavailable(far)

        await until(is_down)
        assert await near.call("find", "notes", {}) == []
        # TC-11: the secret is replaced, and nobody restarts anything.
        await roost.backend.secrets.put("remote", "mongodb", CLUSTERS.uri("own"))

        async def is_up() -> bool:
            return bool(await outcome(far, "find", "notes", {}) == [])

        await until(is_up, 10)


async def test_plug_ins_and_new_services_reach_every_database(roosts: StartRoost) -> None:
    """DB-6: what a later declaration or a plug-in needs is brought about where the app's data is."""
    roost = await roosts(model="database", modules=("tests.integration.server.extension",))
    extended = TWO_APPS.replace(
        "      sealed:", "      plans: {indexes: [[day]], rules: {default: public}}\n      sealed:"
    )
    await roost.backend.apply(parse(extended))
    async with raw(roost, "acme") as own:
        assert "app_id_1_day_1__id_1" in await own["plans"].index_information()
        tenant = await tenant_of(roost, "acme")
        await roost.app.call("notes", "find", Params(tenant=tenant))
        wanted = {schema.name for schema in roost.backend.placements.own}
        assert wanted <= {*await own.list_collection_names()}


async def test_providers_answer_for_their_databases(roosts: StartRoost) -> None:
    """DB-1, DB-8: provision twice, ping, deprovision what is the app's own, and never what is another's."""
    roost = await roosts(model="database")
    acme, globex = await tenant_of(roost, "acme"), await tenant_of(roost, "globex")
    provider = roost.backend.placements.provider(acme.placement)
    assert await provider.ping(acme, acme.placement)
    assert await roost.backend.placements.provision(acme, acme.placement) == acme.placement
    with pytest.raises(Unavailable):
        await provider.deprovision(acme, globex.placement)
    await roost.app.call("notes", "create", Params(tenant=acme), data={"text": "x"})
    assert await provider.deprovision(acme, acme.placement) > 0
    async with provider.administer(acme, acme.placement) as handle:
        assert acme.placement.database not in await handle.deployment.client.list_database_names()
    assert await provider.deprovision(acme, acme.placement) == 0
    assert await roost.app.call("notes", "find", Params(tenant=globex))
    with pytest.raises(ValueError, match="database"):
        roost.backend.placements.register("database", provider)


async def test_many_first_calls_look_at_a_database_once(roosts: StartRoost, monkeypatch: pytest.MonkeyPatch) -> None:
    roost = await roosts(model="database")
    tenant = await tenant_of(roost, "acme")
    looks = 0
    read = roost.backend.placements._look

    async def counted(tenant: Tenant, placement: Placement, handle: Handle) -> None:
        nonlocal looks
        looks += tenant.id == "acme"  # Another app's database may be looked at meanwhile, by work behind the scenes.
        await read(tenant, placement, handle)

    roost.backend.placements._verified.clear()
    monkeypatch.setattr(roost.backend.placements, "_look", counted)
    await asyncio.gather(*(roost.app.call("notes", "find", Params(tenant=tenant)) for _ in range(100)))
    assert looks == 1


def test_a_snapshot_knows_its_placement() -> None:
    """DB-2: all of the placement comes from the catalogue."""
    place = {"model": "database", "cluster": "far", "database": "t_a_1", "credentials_ref": "x", "region": "eu"}
    there = {**place, "database": "t_a_2"}
    move = {"operation": "op", "phase": "frozen", "source": place, "target": there}
    document = {"_id": "acme", "name": "Acme", "placement": place, "migration": move}
    tenant: Tenant = to_tenant(document)
    assert tenant.placement == Placement("database", "far", "t_a_1", "x", "eu")
    assert tenant.frozen
    assert tenant.leftover == Placement("database", "far", "t_a_2", "x", "eu")


async def test_apps_of_every_model_side_by_side_keep_to_themselves(roosts: StartRoost) -> None:
    """DB-4, PO-1, GU-3: a handle belongs to its call; and apps on one cluster share one client."""
    service = "services: {notes: {paginate: false, rules: {default: public}}}"
    far = f"placement: {{model: database, cluster: {NAMED}}}"
    declared = f"""
tenants:
  - {{id: shared-one, {service}}}
  - {{id: shared-two, {service}}}
  - {{id: own-one, {far}, {service}}}
  - {{id: own-two, {far}, {service}}}
  - {{id: cluster-one, placement: {{model: cluster, uri_env: {OWN_URI}}}, {service}}}
"""
    assert placement("cluster") is not None
    roost = await roosts(declared, **cluster_settings())
    ids = [tenant["id"] for tenant in yaml.safe_load(declared)["tenants"]]
    tenants = {id: await tenant_of(roost, id) for id in ids}

    async def one(id: str, number: int) -> None:
        params = Params(tenant=tenants[id])
        made = await roost.app.call("notes", "create", params, data={"_id": f"n{number}", "of": id})
        found = await roost.app.call("notes", "find", Params(tenant=tenants[id]))
        assert {record["of"] for record in found.result} == {id}
        assert made.result["of"] == id

    await asyncio.gather(*(one(id, number) for number in range(20) for id in ids))
    # That of the cluster, and that of the app's own one; the shared database needs none besides the server's own.
    assert sorted(key.split("/")[0] for key in roost.backend.clients.keys) == [OWN, NAMED]
