"""GU-2, PO-2: on a cluster with access control, an app's own database is opened by a user who can open no other."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr
from pymongo import AsyncMongoClient, MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from server.main import Roost
from services.control.moves.moves import Destination
from services.database.mongod import REPLICA_SET, arguments, find_mongod, free_port
from services.placement.dedicated import with_user
from tests.conftest import StartRoost
from tests.integration.placement.killing import KEPT, UNFORGOTTEN, go_on, killed
from tests.integration.placement.moving import ended, finalize
from tests.integration.rules.people import keep, tenant_of
from tests.support.client import connect
from tests.support.placed import OWN_URI, placement
from tests.support.roost import TWO_APPS

pytestmark = pytest.mark.shared_only("places its apps on a cluster of its own that asks who comes")

ROOT = ("keeper", "s3cret:/?#@")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI of a replica set with access control, by its administrator."""
    folder = tmp_path_factory.mktemp("guarded")
    key = folder / "key"
    key.write_text("a key that the members of this set share " * 2)
    key.chmod(0o400)
    port = free_port()
    with (folder / "mongod.log").open("wb") as log:
        command = [*arguments(find_mongod(), folder, port), f"--keyFile={key}"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        _found(port)
        yield with_user(f"mongodb://127.0.0.1:{port}/?replicaSet={REPLICA_SET}", *ROOT, "admin")
    finally:
        process.kill()
        process.wait()


def _found(port: int) -> None:
    """Makes it a replica set, and its first user, who alone may be made without a password."""
    deadline = time.monotonic() + 30
    while True:
        try:
            with MongoClient[dict[str, Any]]("127.0.0.1", port, directConnection=True, timeoutMS=2000) as client:
                if not client.admin.command("hello").get("setName"):
                    members = [{"_id": 0, "host": f"127.0.0.1:{port}"}]
                    client.admin.command({"replSetInitiate": {"_id": REPLICA_SET, "members": members}})
                elif client.admin.command("hello")["isWritablePrimary"]:
                    client.admin.command({"createUser": ROOT[0], "pwd": ROOT[1], "roles": ["root"]})
                    return
        except PyMongoError:
            assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
async def roost(roosts: StartRoost, guarded: str) -> Roost:
    return await roosts(TWO_APPS, clusters=SecretStr(json.dumps({"guarded": guarded})))


async def test_an_apps_user_opens_this_database_and_no_other(roost: Roost, guarded: str) -> None:
    await keep(roost, "acme", "notes", {"_id": "one", "text": "kept"})
    for app_id in ("acme", "globex"):
        moved = await ended(roost, await roost.backend.moves.promote(app_id, Destination("database", "guarded")))
        assert moved.error is None
        await finalize(roost, app_id)
    acme, globex = (await roost.backend.tenants.get("acme")), (await roost.backend.tenants.get("globex"))
    assert acme is not None
    assert globex is not None
    own, other = acme.placement, globex.placement
    assert own.credentials_ref == f"user.{own.database}"
    async with connect(roost, "acme") as ada:
        await ada.call("create", "notes", {"_id": "two"}, {})
        assert len(await ada.call("find", "notes", {})) == 2
    # The data is reached by a client of the app's own, the cluster's administrator's is for administration.
    assert any(key.startswith("guarded/acme/") for key in roost.backend.clients.keys)

    secret = await roost.backend.secrets.get("acme", str(own.credentials_ref))
    assert secret is not None
    login = json.loads(secret.value)
    assert login["password"] not in repr(acme)
    uri = with_user(guarded, login["user"], login["password"], own.database)
    async with AsyncMongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=5000) as client:
        assert await client[own.database]["notes"].count_documents({"app_id": "acme"}) == 2
        stray = {"_id": {"a": "acme", "i": "x"}, "app_id": "acme"}
        for refused in (
            client[other.database]["notes"].find_one({"app_id": "globex"}),
            client[other.database]["notes"].insert_one(dict(stray)),
            client[other.database]["notes"].delete_many({}),
            client.admin.command("listDatabases", nameOnly=True, authorizedDatabases=False),
            client[own.database]["notes"].insert_one({"_id": 1}),
            # The validator is not for the user to go around, or to change.
            client.get_database(own.database)["notes"].insert_one({"_id": 1}, bypass_document_validation=True),
            client[own.database].command({"collMod": "notes", "validator": {}}),
            client[own.database].command({"createUser": "mallory", "pwd": "x", "roles": []}),
        ):
            with pytest.raises(OperationFailure):
                await refused


async def test_an_app_of_a_clusters_name_has_no_client_of_another_app(roosts: StartRoost, guarded: str) -> None:
    """PO-1, DB-6: names of apps, clusters and secrets may be alike; whose client it is remains certain."""
    assert placement("cluster") is not None
    own, alike = f"{{model: cluster, uri_env: {OWN_URI}}}", "{model: database, cluster: guarded}"
    services = "services: {notes: {rules: {default: public}}}"
    apps = [f"{{id: guarded, placement: {own}, {services}}}", f"{{id: mongodb, placement: {alike}, {services}}}"]
    text = "\n".join(("tenants:", *(f"  - {app}" for app in apps)))
    roost = await roosts(text, clusters=SecretStr(json.dumps({"guarded": guarded})))
    for app_id in ("guarded", "mongodb"):
        async with connect(roost, app_id) as client:
            await client.call("create", "notes", {"_id": f"of {app_id}"}, {})
            assert [one["_id"] for one in (await client.call("find", "notes", {}))["data"]] == [f"of {app_id}"]


async def test_when_the_data_goes_the_user_goes(roost: Roost, guarded: str) -> None:
    moved = await ended(roost, await roost.backend.moves.promote("acme", Destination("database", "guarded")))
    assert moved.error is None
    left = (await roost.backend.tenants.get("acme")).placement  # type: ignore[union-attr]
    back = await roost.backend.moves.rollback("acme")
    assert back is not None
    assert (await ended(roost, back)).error is None
    await finalize(roost, "acme")
    async with AsyncMongoClient[dict[str, Any]](guarded) as client:
        assert (await client[left.database].command("usersInfo"))["users"] == []
    assert await roost.backend.secrets.get("acme", str(left.credentials_ref)) is None
    assert (await tenant_of(roost, "acme")).placement.model == "shared"


@pytest.mark.parametrize("moment", [KEPT, UNFORGOTTEN])
async def test_no_user_and_no_password_stay_of_a_move_that_was_killed(
    roost: Roost, mongod: str, guarded: str, moment: str
) -> None:
    """Killed before the move has noted that there is a password, or when its database is purged."""
    await roost.backend.control.runner.stop()
    if moment == KEPT:
        await killed(roost, mongod, moment, "--to", "database", "--cluster", "guarded", app_id="acme")
        await go_on(roost, mongod, "--rollback", app_id="acme")
        await finalize(roost, "acme")
    else:
        moved = await ended(roost, await roost.backend.moves.promote("acme", Destination("database", "guarded")))
        assert moved.error is None
        await go_on(roost, mongod, "--rollback", app_id="acme")
        await killed(roost, mongod, moment, "--finalize", "--now", app_id="acme")
        await go_on(roost, mongod, "--resume", app_id="acme")
    assert [secret.name for secret in await roost.backend.secrets.names("acme")] == []
    async with AsyncMongoClient[dict[str, Any]](guarded) as client:
        users = (await client.admin.command({"usersInfo": {"forAllDBs": True}}))["users"]
        assert [user["user"] for user in users if user["user"].startswith("t_acme_")] == []
        assert [name for name in await client.list_database_names() if name.startswith("t_acme_")] == []


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("mongodb://h1:1,h2:2/?replicaSet=rs0", "mongodb://u:p%2F@h1:1,h2:2/?replicaSet=rs0&authSource=db"),
        (
            "mongodb://a:b%40c@h1/x?tls=true&authSource=admin&authMechanism=SCRAM-SHA-1",
            "mongodb://u:p%2F@h1/?tls=true&authSource=db",
        ),
        ("mongodb+srv://a:b@cluster.example", "mongodb+srv://u:p%2F@cluster.example/?authSource=db"),
    ],
)
def test_a_uri_by_another_user(uri: str, expected: str) -> None:
    assert with_user(uri, "u", "p/", "db") == expected
