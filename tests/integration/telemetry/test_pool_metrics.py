"""PO-4: the connections to each cluster, as this process's own sockets show them, and what they may become."""

from __future__ import annotations

import psutil

from server.main import Roost
from services.placement.clients import OWN
from services.placement.pools import WATCHING
from tests.conftest import StartRoost
from tests.integration.telemetry.test_metrics import values
from tests.support.client import connect
from tests.support.placed import CLUSTERS, NAMED, cluster_settings, placement

APPS = """
tenants:
  - {id: shared-one, placement: {model: shared}, services: {notes: {rules: {default: public}}}}
  - {id: database-one, placement: {model: database, cluster: far}, services: {notes: {rules: {default: public}}}}
  - {id: cluster-one, placement: {model: cluster, uri_env: TEST_OWN_CLUSTER}, services: {notes: {rules: {default: public}}}}
"""
POOL, DEDICATED = 11, 3


def sockets(uri: str) -> set[int]:
    """The ports from which this process is connected to a server."""
    port = int(uri.partition("/?")[0].rpartition(":")[2])
    found = psutil.Process().net_connections("tcp")
    return {one.laddr.port for one in found if one.raddr and one.raddr.port == port and one.status == "ESTABLISHED"}


async def test_the_connections_to_each_cluster(roosts: StartRoost) -> None:
    placement("cluster")
    uris = {NAMED: CLUSTERS.uri(NAMED), OWN: CLUSTERS.uri("own")}
    before = {cluster: sockets(uri) for cluster, uri in uris.items()}
    roost: Roost = await roosts(APPS, mongo_pool=POOL, dedicated_pool=DEDICATED, **cluster_settings())
    for model in ("shared", "database", "cluster"):
        async with connect(roost, f"{model}-one") as ada:
            await ada.call("create", "notes", {"n": 1}, {})
    factor = 2 if roost.settings.mongo_path == "lean" else 1
    most = await values(roost, "roost_mongo_connections_most")
    pools = {"default": POOL, NAMED: POOL, OWN: DEDICATED}
    assert most == {(cluster,): factor * size + WATCHING for cluster, size in pools.items()}
    opened = await values(roost, "roost_mongo_connections")
    assert opened.keys() == most.keys()
    for cluster, uri in uris.items():
        # Servers of earlier tests may have left some to the collector.
        there = len(sockets(uri) - before[cluster])
        assert there - WATCHING <= opened[cluster,] <= there
        assert opened[cluster,] > 0
