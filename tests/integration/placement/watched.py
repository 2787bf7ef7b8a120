"""Apps that are watched while one of them is moved: where it is in the end, and that nobody has lost or got a record."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pymongo import AsyncMongoClient

from hooks.tenant import Placement
from server.main import Roost
from services.placement.placements import SHARED
from tests.integration.placement.moving import contents
from tests.integration.placement.traffic import Traffic
from tests.support.placed import CLUSTERS, NAMED

APPS = ("moved", "third", "beside")
"""One that is moved, one in the shared database, and one with a database of its own on the named cluster."""
WRITTEN = ("moved", "third")


@dataclass(frozen=True, slots=True)
class Watched:
    """The apps, from before `moved` was moved, or at least before the other place was purged."""

    roost: Roost
    mongod: str
    traffic: Traffic
    before: dict[str, list[Any]]
    """The records of each app."""
    strangers: set[str]
    """Databases that look like its own, and were left by tests that failed."""

    async def check(self, place: Placement) -> None:
        """Ends the writes; the app is at the place and nowhere else, and of no app a record is lost, doubled or changed."""
        await is_at(self.roost, place)
        await self.traffic.end()
        made = {}
        for app_id, before in self.before.items():
            records = (await contents(self.roost, app_id))["notes"]
            assert [record for record in records if record["writer"] == "old"] == before, app_id
            made[app_id] = [record for record in records if record["writer"] != "old"]
        self.traffic.check(made)
        assert made["beside"] == []
        refusals = self.traffic.refusals("third")
        assert refusals == [], refusals
        found = await databases(self.mongod, "moved") - self.strangers
        assert found == own(place), (found, place)
        counts = await in_shared(self.roost, "moved")
        if place.model == SHARED:
            assert counts["notes"] == len(self.before["moved"]) + len(made["moved"]), counts
        else:
            assert counts == {}, counts


@asynccontextmanager
async def watched(roost: Roost, mongod: str, source: Placement) -> AsyncIterator[Watched]:
    """The apps are written continuously for as long as the block lasts; `source` is where `moved` is, or was before."""
    before = {app_id: (await contents(roost, app_id))["notes"] for app_id in APPS}
    assert all(before.values())
    known = own(source) | own(await place_of(roost, "moved"))
    strangers = await databases(mongod, "moved") - known
    async with Traffic(roost, WRITTEN, rate=40, each=1) as traffic:
        yield Watched(roost, mongod, traffic, before, strangers)


async def is_at(roost: Roost, place: Placement) -> None:
    """The app that is moved is where it is to be, and is written."""
    tenant = await roost.backend.tenants.get("moved")
    assert tenant is not None
    assert (tenant.status, tenant.frozen, tenant.placement) == ("ready", False, place)


async def place_of(roost: Roost, app_id: str) -> Placement:
    """Where the catalogue says that an app is."""
    tenant = await roost.backend.tenants.get(app_id)
    assert tenant is not None
    return tenant.placement


def own(place: Placement) -> set[str]:
    """The database at a place that is one app's alone."""
    return set() if place.model == SHARED else {place.database}


async def databases(mongod: str, app_id: str) -> set[str]:
    """The databases of an app's own, on every server of the tests."""
    found: set[str] = set()
    for uri in (mongod, CLUSTERS.uri(NAMED), CLUSTERS.uri("own")):
        async with AsyncMongoClient[Any](uri) as client:
            found |= {name for name in await client.list_database_names() if name.startswith(f"t_{app_id}_")}
    return found


async def in_shared(roost: Roost, app_id: str) -> dict[str, int]:
    """How many documents of an app are in the shared database, by collection: whatever has any."""
    shared = roost.backend.deployment.client[roost.settings.database]
    names = await shared.list_collection_names()
    counts = {name: await shared[name].count_documents({"app_id": app_id}) for name in names}
    return {name: count for name, count in counts.items() if count}
