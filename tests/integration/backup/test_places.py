"""Where imports and clones make their apps: wherever the operator says, on a cluster of their own too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from server.main import Roost
from services.control.backup import backup as module
from tests.conftest import StartRoost
from tests.integration.server.command import environment, run
from tests.support.client import PASSWORD, connect
from tests.support.placed import CLUSTERS, NAMED, OWN_URI, cluster_settings

pytestmark = pytest.mark.shared_only("names the places of its apps")

APPS = """
tenants:
  - id: acme
    services: {notes: {rules: {default: public}, multi: true, paginate: false}}
"""
NOTES = [{"_id": f"n{n:02}", "text": f"hello number {n}"} for n in range(30)]
OWN = ("--placement", "cluster", "--uri-env", OWN_URI)


@pytest.fixture
async def served(roosts: StartRoost, monkeypatch: pytest.MonkeyPatch) -> Roost:
    monkeypatch.setattr(module, "BATCH", 7)
    roost = await roosts(APPS, **cluster_settings())
    async with connect(roost, "acme") as ada:
        await ada.sign_up("ada")
        await ada.call("create", "notes", NOTES, {})
    return roost


@pytest.fixture
def env(served: Roost) -> dict[str, str]:
    """The variables of commands beside the server."""
    assert served.settings.mongodb_uri is not None
    clusters = cluster_settings()["clusters"].get_secret_value()
    uri = served.settings.mongodb_uri.get_secret_value()
    return environment(uri, served.settings.database, ROOST_CLUSTERS=clusters)


def silent(collection: str, count: int) -> None:
    """Progress that nobody watches."""


async def all_notes(roost: Roost, app_id: str) -> list[dict[str, Any]]:
    async with connect(roost, app_id) as client:
        found: list[dict[str, Any]] = await client.call("find", "notes", {"$sort": {"_id": 1}})
    return found


async def test_an_app_is_imported_onto_a_cluster_of_its_own(served: Roost, env: dict[str, str], tmp_path: Path) -> None:
    """With its documents and its people, and nothing of it elsewhere."""
    file, uri = tmp_path / "acme.roost", CLUSTERS.uri("own")
    assert (await run("tenants", "export", "acme", file, env=env)).code == 0
    made = await run("tenants", "import", file, "--as", "acme-two", *OWN, env={**env, OWN_URI: uri})
    assert made.code == 0, made.err

    tenant = await served.backend.tenants.get("acme-two")
    assert tenant is not None
    assert (tenant.status, tenant.placement.model) == ("ready", "cluster")
    async with AsyncMongoClient[dict[str, Any]](uri) as there:
        kept = there[tenant.placement.database]
        assert await kept["notes"].count_documents({"app_id": "acme-two"}) == len(NOTES)
        assert await kept["users"].count_documents({"app_id": "acme-two"}) == 1
    shared = served.backend.deployment.client[served.settings.database]
    for name in await shared.list_collection_names():
        assert await shared[name].count_documents({"app_id": "acme-two"}) == 0, name

    assert await all_notes(served, "acme-two") == NOTES == await all_notes(served, "acme")
    async with connect(served, "acme-two") as client:
        user = (await client.login("ada", PASSWORD))["user"]
        assert user["username"] == "ada"
        await client.call("create", "notes", {"_id": "new", "text": "afterwards"}, {})
    assert len(await all_notes(served, "acme")) == len(NOTES), "they are two apps"


async def test_the_commands_make_apps_where_they_are_told_to(
    served: Roost, env: dict[str, str], tmp_path: Path
) -> None:
    """Whatever the setting for new apps says."""
    file, own = tmp_path / "acme.roost", {**env, "ROOST_PLACEMENT": "database"}
    assert (await run("tenants", "export", "acme", file, env=env)).code == 0
    for arguments, changed in [
        (("import", file, "--as", "acme-two", "--placement", "database"), env),
        (("clone", "acme", "acme-three", "--placement", "database"), env),
        (("clone", "acme", "acme-four", "--placement", "shared"), own),
    ]:
        made = await run("tenants", *arguments, env=changed)
        assert made.code == 0, made.err

    models = {}
    for id in ("acme-two", "acme-three", "acme-four"):
        tenant = await served.backend.tenants.get(id)
        assert tenant is not None
        models[id] = tenant.placement.model
        assert len(await all_notes(served, id)) == len(NOTES)
    assert models == {"acme-two": "database", "acme-three": "database", "acme-four": "shared"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--placement", "cellar"), "There is no isolation model 'cellar'"),
        (("--placement", "database", "--cluster", "mars"), "There is no cluster 'mars'"),
        (("--placement", "cluster"), "uri_env"),
        (("--cluster", "eu"), "go with --placement"),
    ],
)
async def test_no_app_is_made_in_a_place_that_there_is_not(
    served: Roost, env: dict[str, str], options: tuple[str, ...], said: str
) -> None:
    cloned = await run("tenants", "clone", "acme", "acme-two", *options, env=env)
    assert (cloned.code != 0, said in cloned.err) == (True, True), cloned.err
    assert await served.backend.tenants.get("acme-two") is None


@pytest.mark.parametrize(
    ("made", "other", "said"),
    [
        (("--placement", "shared"), ("--placement", "database"), "model 'shared', cluster 'default'"),
        (("--placement", "database"), ("--placement", "database", "--cluster", NAMED), "cluster 'default'"),
        (OWN, ("--placement", "cluster", "--uri-env", "ELSEWHERE"), "not what ELSEWHERE holds"),
    ],
    ids=lambda options: options[1] if isinstance(options, tuple) else "",
)
async def test_an_import_goes_on_at_no_other_place_than_where_it_began(
    served: Roost, env: dict[str, str], tmp_path: Path, made: tuple[str, ...], other: tuple[str, ...], said: str
) -> None:
    """Who names a place believes that the app is there."""
    whole, part = tmp_path / "whole.roost", tmp_path / "part.roost"
    env = {**env, OWN_URI: CLUSTERS.uri("own"), "ELSEWHERE": CLUSTERS.uri(NAMED)}
    assert (await run("tenants", "export", "acme", whole, env=env)).code == 0
    part.write_bytes(whole.read_bytes()[:-3])
    began = await run("tenants", "import", part, "--as", "acme-two", *made, env=env)
    assert (began.code, "ends in the middle" in began.err) == (1, True), began.err

    refused = await run("tenants", "import", whole, "--as", "acme-two", "--resume", *other, env=env)
    assert (refused.code, said in refused.err) == (1, True), refused.err
    half = await served.backend.tenants.get("acme-two")
    assert half is not None
    assert half.status == "suspended"
    went_on = await run("tenants", "import", whole, "--as", "acme-two", "--resume", *made, env=env)
    assert went_on.code == 0, went_on.err
    assert await all_notes(served, "acme-two") == NOTES
