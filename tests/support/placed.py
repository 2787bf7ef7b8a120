"""Apps placed by each isolation model, over three mongods: the server's own, a cluster it names, and one of the apps' own."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pydantic import SecretStr
from pymongo import AsyncMongoClient

from server.main import Roost
from services.declaration.placement import PlacementDeclaration
from services.placement.clients import OWN
from tests.support.mongod import ReplicaSet

MODELS = ("shared", "database", "cluster")
NAMED = "far"
"""The cluster that servers under test name, for the model `database`."""
OWN_URI = "TEST_OWN_CLUSTER"
"""The variable that holds the connection string for the model `cluster`."""


class Clusters:
    """Two mongods besides the session's, started when the first test wants them."""

    def __init__(self) -> None:
        self._started: dict[str, ReplicaSet] = {}

    def uri(self, name: str) -> str:
        """The URI of the mongod of this name."""
        if name not in self._started:
            self._started[name] = ReplicaSet().__enter__()
        return self._started[name].uri

    @property
    def uris(self) -> list[str]:
        """The URIs of those that were started."""
        return [started.uri for started in self._started.values()]

    def stop(self) -> None:
        """Ends what was started."""
        for replica_set in self._started.values():
            replica_set.stop()
        self._started.clear()


CLUSTERS = Clusters()
default_model = ["shared"]
"""The model of apps in tests that name none: `pytest --model` sets it."""


def placement(model: str) -> PlacementDeclaration | None:
    """Where a server under test keeps apps of a model: its setting `placement`."""
    if model == "database":
        return PlacementDeclaration(model=model, cluster=NAMED)
    if model == "cluster":
        os.environ[OWN_URI] = CLUSTERS.uri("own")
        return PlacementDeclaration(model=model, uri_env=OWN_URI)
    return None


def cluster_settings() -> dict[str, Any]:
    """The settings of a server that knows the named cluster."""
    return {"clusters": SecretStr(json.dumps({NAMED: CLUSTERS.uri(NAMED)}))}


@asynccontextmanager
async def raw(roost: Roost, app_id: str) -> AsyncIterator[Any]:
    """The driver's own database in which an app's records are, wherever that is."""
    tenant = await roost.backend.tenants.get(app_id)
    assert tenant is not None
    async with roost.backend.placements.administer(tenant) as handle:
        yield handle.raw


@asynccontextmanager
async def served(uri: str, database: str, app_id: str) -> AsyncIterator[Any]:
    """The driver's own database of an app that other processes serve, by the URI and the database that these were given."""
    async with AsyncMongoClient[dict[str, Any]](uri) as client:
        entry = await client[f"{database}_control"]["tenants"].find_one({"_id": app_id})
    assert entry is not None
    place = entry["placement"]
    where = uri if place["model"] == "shared" else CLUSTERS.uri({"database": NAMED, "cluster": "own"}[place["model"]])
    async with AsyncMongoClient[dict[str, Any]](where) as client:
        yield client[place["database"]]


def database_of(roost: Roost, app_id: str = "acme") -> Any:
    """The driver's own database in which the records of a served app are: to look at what no service shows."""
    tenant = roost.catalogue.peek(app_id)
    assert tenant is not None
    placement, clients = tenant.placement, roost.backend.clients
    if placement.model == "shared":
        return roost.backend.deployment.client[placement.database]
    own = f"{OWN}/{app_id}/{placement.credentials_ref}/"
    prefix = placement.cluster if placement.credentials_ref is None else own
    (key,) = [key for key in clients.keys if key.startswith(prefix)]
    return clients.opened(key).client[placement.database]
