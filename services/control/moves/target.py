"""The target of a move: chosen, looked at before anything is changed, and brought about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hooks.errors import BadRequest, Conflict
from hooks.tenant import Placement, Tenant
from services.control.moves.entry import Migration
from services.control.places import OWN_URI
from services.control.schemas import schemas_of
from services.database.faults import DRIVER_ERRORS, from_driver
from services.placement import meta
from services.placement.dedicated import DEFAULT, fresh_name
from services.placement.placements import SHARED, Placements
from services.placement.shared import collections

OLDEST = (4, 4)
"""The oldest version of MongoDB on which an app's data is kept."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is to be moved."""

    documents: int
    bytes: int
    collections: Mapping[str, int]


def choose(
    tenant: Tenant, model: str, *, cluster: str = DEFAULT, credential: str = OWN_URI, database: str
) -> Placement:
    """The placement for a model; `database` is the name of the shared one.

    Raises:
        BadRequest: the app is there already, or it is the control plane.
    """
    if tenant.is_control_plane:
        raise BadRequest("The control plane stays in the shared database")
    here = tenant.placement
    if model == SHARED:
        target = Placement(database=database, region=here.region)
    elif model == "cluster":
        target = Placement(model, DEFAULT, fresh_name(tenant.id), credential, here.region)
    else:
        target = Placement(model, cluster, fresh_name(tenant.id), None, here.region)
    same_secret = model != "cluster" or here.credentials_ref == credential
    if (here.model, here.cluster) == (target.model, target.cluster) and same_secret:
        raise BadRequest(f"The data of '{tenant.id}' is there already")
    return target


async def estimate(raw: Any, app_id: str) -> Estimate:
    """Counts a tenant's records, and weighs them by the average of their collections."""
    counts: dict[str, int] = {}
    weight = 0.0
    try:
        for name in await collections(raw):
            count = await raw[name].count_documents({"app_id": app_id}, maxTimeMS=2500)
            if count:
                counts[name] = count
                weight += count * float((await raw.command("collStats", name)).get("avgObjSize", 0))
    except DRIVER_ERRORS as error:
        raise from_driver(error) from error
    return Estimate(sum(counts.values()), round(weight), counts)


async def inspect(raw: Any, wanted: Estimate) -> None:
    """Looks whether a target can take the records, and changes nothing.

    Raises:
        Conflict: it cannot; the sentence says why.
    """
    try:
        version = (await raw.client.admin.command("buildInfo"))["versionArray"]
        room = await raw.command("dbStats")
        hello = await raw.client.admin.command("hello")
    except DRIVER_ERRORS as error:
        raise from_driver(error) from error
    if tuple(version[:2]) < OLDEST:
        raise Conflict(
            f"The target runs MongoDB {version[0]}.{version[1]}: it has to be {OLDEST[0]}.{OLDEST[1]} or newer"
        )
    if "setName" not in hello and hello.get("msg") != "isdbgrid":
        raise Conflict("The target is no replica set: changes there could not be followed")
    free = room.get("fsTotalSize", 0) - room.get("fsUsedSize", 0)
    if free and free < 2 * wanted.bytes:
        raise Conflict(
            f"The target has {free} bytes of room for {wanted.bytes} bytes of records, which need twice of that"
        )


async def bring_about(placements: Placements, tenant: Tenant, target: Placement) -> Placement:
    """The target with its user, collections, validators, indexes and `_meta`; the placement to keep (8.2.11, step 1).

    What the source has besides, such as collections of services that are declared no longer, comes with its own indexes.
    """
    schemas = schemas_of(tenant.services)
    placed = await placements.provision(tenant, target, schemas)
    known = {schema.name for schema in (*placements.own, *schemas)}
    async with placements.administer(tenant) as here, placements.administer(tenant, placed) as there:
        try:
            if target.model != SHARED:
                await meta.mark(there.raw, moved_at=None)
            for name in await collections(here.raw):
                if name not in known and await here.raw[name].find_one({"app_id": tenant.id}, {"_id": 1}):
                    await _bring_about(here.raw, there.raw, name)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
    return placed


async def retire(placements: Placements, move: Migration) -> None:
    """Has the place that a tenant has left say so: nobody is to serve the tenant from there."""
    if move.source.model != SHARED:
        async with placements.provider(move.source).administer(move.tenant, move.source) as handle:
            await meta.mark(handle.raw, moved_at=datetime.now(UTC))


async def _bring_about(here: Any, there: Any, name: str) -> None:
    found = await (await here.list_collections(filter={"name": name})).to_list()
    options = {key: value for key, value in found[0]["options"].items() if key != "uuid"}
    if name not in await there.list_collection_names(filter={"name": name}):
        await there.command({"create": name, **options})
    indexes = [dict(index) async for index in await here[name].list_indexes()]
    wanted = [{key: value for key, value in index.items() if key not in ("v", "ns")} for index in indexes]
    await there.command({"createIndexes": name, "indexes": [index for index in wanted if index["name"] != "_id_"]})


async def missing_indexes(here: Any, there: Any, names: list[str], known: Mapping[str, frozenset[str]]) -> list[str]:
    """Indexes that the target should have and has not: those of the schemas, or for unknown collections the source's."""
    missing: list[str] = []
    for name in names:
        present = {*await there[name].index_information()}
        wanted = known[name] if name in known else {*await here[name].index_information()}
        missing += [f"{name}.{index}" for index in sorted({*wanted} - present)]
    return missing
