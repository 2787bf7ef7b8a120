"""What mongod does for the filters of `services/isolation.py`: it never looks at more than the tenant's own index keys."""

from __future__ import annotations

from typing import Any

import pytest
from bson import ObjectId

from services.cursor import Order
from services.database.schema import CollectionSchema, Index
from services.isolation import scope
from services.store import Document
from tests.integration.services.places import Ask, Places

OWN = 20
OTHERS = 300


@pytest.fixture
async def filled(placed: Places, ask: Ask, other: Ask) -> Places:
    """A collection in which the other tenant has many more records."""
    isolation = placed.isolation
    await isolation.collection(ask().tenant, "todos").insert([{"_id": str(n), "n": n} for n in range(OWN)])
    await isolation.collection(other().tenant, "todos").insert([{"n": n} for n in range(OTHERS)])
    return placed


async def explain(filled: Places, ask: Ask, filter: Document, **shape: Any) -> Any:
    return await filled.explain(ask().tenant, {"find": "todos", "filter": filter, **shape})


async def test_a_get_uses_the_id_index_alone(filled: Places, ask: Ask) -> None:
    tenant_id = ask().tenant.id
    filters: list[Document] = [
        {"_id": "7"},
        {"_id": str(ObjectId())},
        {"_id": "7", "$and": [{"app_id": tenant_id}]},
        {"$and": [{"app_id": tenant_id}, {"_id": "7"}]},
    ]
    for filter in filters:
        found = await explain(filled, ask, scope(filter, tenant_id), limit=1)
        assert found["queryPlanner"]["winningPlan"]["stage"] == "IDHACK"


@pytest.mark.parametrize(
    ("filter", "shape"),
    [
        ({}, {}),
        ({}, {"limit": 10}),
        ({"n": {"$gte": 0}}, {"sort": {"n": -1, "_id": 1}, "limit": 10}),
        ({}, {"sort": {"_id": -1}, "limit": 10}),
        ({"_id": {"$gt": "1"}}, {"sort": {"_id": 1}}),
        ({"_id": {"$lt": "5"}}, {}),
        ({"_id": {"$in": ["1", "2", "none"]}}, {}),
        ({"_id": {"$ne": "1"}}, {}),
        ({"$or": [{"_id": "1"}, {"n": 2}]}, {}),
    ],
)
async def test_nothing_of_other_tenants_is_looked_at(
    filled: Places, ask: Ask, filter: Document, shape: Document
) -> None:
    found = await explain(filled, ask, scope(filter, ask().tenant.id), **shape)
    statistics = found["executionStats"]
    assert statistics["nReturned"] > 0
    assert statistics["totalDocsExamined"] <= OWN
    assert statistics["totalKeysExamined"] <= OWN + 5


@pytest.mark.parametrize(
    "sort",
    [
        (("_id", 1),),
        (("n", 1), ("_id", 1)),
        (("n", -1), ("_id", -1)),
        (("n", 1), ("m", -1), ("_id", -1)),
    ],
)
@pytest.mark.parametrize("forward", [True, False])
async def test_a_page_by_cursor_reads_no_more_than_itself(
    filled: Places, ask: Ask, sort: tuple[tuple[str, int], ...], forward: bool
) -> None:
    indexed = (Index((("app_id", 1), ("n", 1), ("_id", 1))), Index((("app_id", 1), ("n", 1), ("m", -1), ("_id", -1))))
    await filled.placements.ensure(ask().tenant, [CollectionSchema("pages", indexed)])
    tenant_id = ask().tenant.id
    collection = filled.isolation.collection(ask().tenant, "pages")
    await collection.insert([{"_id": f"{n:04}", "n": n // 3, "m": n % 7} for n in range(900)])
    await collection.insert([{"m": n} for n in range(100)])
    order = Order(sort, tenant_id)
    chosen = order.beyond(order.cursor({"_id": "0450", "n": 150, "m": 2}), forward=forward)
    shape = {"sort": dict(order.sort if forward else order.reversed), "limit": 21}
    command = {"find": "pages", "filter": scope(chosen, tenant_id), **shape}
    found = await filled.explain(ask().tenant, command)
    statistics = found["executionStats"]
    assert statistics["nReturned"] == 21
    assert statistics["totalDocsExamined"] <= 30
