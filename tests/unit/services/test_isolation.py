from __future__ import annotations

import copy
import math
from typing import Any

import pytest
from bson import ObjectId
from hypothesis import given
from hypothesis import strategies as st

from hooks.errors import BadRequest, FeathersError, GeneralError, Unavailable
from hooks.tenant import Placement, Tenant
from services import isolation
from services.isolation import Isolation, ScopedCollection, from_store, normalise_id, scope, to_store
from services.memory import MemoryCollection, MemoryStore
from services.store import Namespace

HEX = "65a1b2c3d4e5f60718293a4b"
NAMESPACE = Namespace("roost", "things")


def bound(id: Any) -> dict[str, Any]:
    return {"a": "acme", "i": id}


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (HEX, ObjectId(HEX)), (HEX.upper(), ObjectId(HEX)), (ObjectId(HEX), ObjectId(HEX)), ("abc", "abc"), (7, "7"),
        (-7, "-7"), (7.0, "7"), ("65a1 b2c3 d4e5 f607 1829", "65a1 b2c3 d4e5 f607 1829"), ("x" * 256, "x" * 256), ("é", "é"),
        ("$gt", "$gt"), (" ", " "),
    ],
)  # fmt: skip
def test_an_id_has_one_stored_form(given: Any, stored: Any) -> None:
    assert normalise_id(given) == stored
    assert type(normalise_id(given)) is type(stored)


@pytest.mark.parametrize(
    "value",
    [
        None, True, False, "", "x" * 257, {}, {"$ne": None}, {"$gt": ""}, [], ["a"], 1.5, math.nan, math.inf, 2**63, 1e300,
        b"12 bytes lon", object(), "\ud800",
    ],
)  # fmt: skip
def test_what_is_no_id_is_refused(value: Any) -> None:
    with pytest.raises(BadRequest, match=r"^Invalid id '"):
        normalise_id(value)


def test_a_refused_id_is_shown_as_json() -> None:
    with pytest.raises(BadRequest) as caught:
        normalise_id({"$ne": None})
    assert caught.value.message == """Invalid id '{"$ne":null}'"""


@pytest.mark.parametrize(
    ("filter", "scoped"),
    [
        ({}, {"app_id": "acme"}),
        ({"n": 1}, {"n": 1, "app_id": "acme"}),
        ({"app_id": "acme"}, {"app_id": "acme"}),
        ({"_id": HEX}, {"_id": bound(ObjectId(HEX))}),
        ({"$and": [{"app_id": "acme"}], "_id": "x"}, {"_id": bound("x")}),
        ({"$and": [{"app_id": "acme"}, {"_id": "x"}]}, {"_id": bound("x")}),
        ({"$and": [{"app_id": "acme"}, {"n": 1}], "_id": "x"}, {"n": 1, "_id": bound("x")}),
        ({"$and": [{"_id": "y"}], "_id": "x"}, {"$and": [{"_id": bound("x")}], "_id": bound("y")}),
        ({"$and": [{"n": 1}, {"n": 2}]}, {"n": 1, "$and": [{"n": 2}], "app_id": "acme"}),
        ({"$and": [{"n": 1}], "n": 2}, {"n": 2, "$and": [{"n": 1}], "app_id": "acme"}),
        ({"$and": [{"$and": [{"n": 1}, {"n": 2}]}, {"n": 3}]}, {"n": 1, "$and": [{"n": 2}, {"n": 3}], "app_id": "acme"}),
        ({"$or": [{"_id": "x"}, {"n": 1}]}, {"$or": [{"_id": bound("x")}, {"n": 1}], "app_id": "acme"}),
        ({"$or": [{"app_id": "acme"}, {"n": 1}]}, {"$or": [{}, {"n": 1}], "app_id": "acme"}),
        ({"_id": {"$in": [HEX, 7]}}, {"_id": {"$in": [bound(ObjectId(HEX)), bound("7")]}, "app_id": "acme"}),
        ({"_id": {"$nin": ["x"]}}, {"_id": {"$nin": [bound("x")]}, "app_id": "acme"}),
        ({"_id": {"$ne": "x"}}, {"_id": {"$ne": bound("x")}, "app_id": "acme"}),
        ({"_id": {"$exists": True}}, {"_id": {"$exists": True}, "app_id": "acme"}),
        ({"_id": {"$regex": "^x"}}, {"_id.i": {"$regex": "^x"}, "app_id": "acme"}),
        ({"other_id": HEX, "ids": [HEX]}, {"other_id": HEX, "ids": [HEX], "app_id": "acme"}),
    ],
)  # fmt: skip
def test_the_mandatory_filter(filter: dict[str, Any], scoped: dict[str, Any]) -> None:
    before = copy.deepcopy(filter)
    found = scope(filter, "acme")
    assert found == scoped
    assert filter == before


def test_the_tenant_comes_first_in_a_bound_id() -> None:
    assert list(scope({"_id": "x"}, "acme")["_id"]) == ["a", "i"]
    assert list(to_store({"_id": "x"}, "acme")["_id"]) == ["a", "i"]


@pytest.mark.parametrize(
    "filter",
    [
        {"__search__.a": "x"}, {"__search__": {"$exists": True}},
        {"app_id": "globex"}, {"app_id": {"$ne": "acme"}}, {"app_id": {"$in": ["acme", "globex"]}}, {"app_id": None},
        {"app_id": ["acme"]}, {"$or": [{"n": 1}, {"app_id": "globex"}]}, {"$and": [{"$or": [{"app_id": "globex"}]}]},
        {"$nor": [{"app_id": "globex"}]}, {"app_id.x": 1}, {"_id.a": "globex"}, {"_id.i": "x"}, {"_id.a": {"$gt": ""}},
        {"_id": {"a": "globex", "i": "x"}}, {"_id": {"a": "acme", "i": "x"}},
        {"_id": {}}, {"_id": None}, {"_id": True}, {"_id": {"$in": [None]}},
        {"_id": ["x"]}, {"_id": {"$gt": ""}}, {"_id": {"$in": [{"a": "globex", "i": "x"}]}}, {"_id": {"$type": "object"}},
        {"_id": {"$not": {"$gt": "x"}}}, {"_id": {"$elemMatch": {}}}, {"$where": "1"},
        {"$expr": {"$eq": ["$app_id", "globex"]}}, {"$jsonSchema": {}}, {"$text": {"$search": "x"}}, {"$comment": "x"},
    ],
)  # fmt: skip
def test_no_filter_names_another_tenant_or_what_cannot_be_seen_through(filter: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        scope(filter, "acme")


values = st.one_of(st.none(), st.integers(-5, 5), st.sampled_from(["x", "y", HEX, "acme", "globex"]))
operators = st.sampled_from(["$ne", "$gt", "$gte", "$lt", "$lte"])
conditions = values | st.builds(lambda operator, value: {operator: value}, operators, values)
leaves = st.dictionaries(st.sampled_from(["_id", "app_id", "n", "a.b"]), conditions, max_size=3)
filters = st.recursive(
    leaves,
    lambda inner: st.builds(
        lambda part, key, parts: {**part, key: parts},
        leaves,
        st.sampled_from(["$and", "$or", "$nor"]),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=6,
)


@given(filters)
async def test_whatever_is_asked_only_ones_own_answers(filter: dict[str, Any]) -> None:
    store = MemoryStore()
    collection = store.collection(NAMESPACE)
    for tenant_id in ("acme", "globex"):
        for id in ("x", "y", HEX, "7"):
            await collection.insert([to_store({"_id": id, "n": 1, "owner": tenant_id}, tenant_id)])
    own = ScopedCollection(collection, "acme")
    try:
        found = await own.find(filter)
        assert await own.count(filter) == len(found)
        assert {record["owner"] for record in found} <= {"acme"}
        await own.update_many(filter, {"$set": {"touched": True}})
        await own.delete_many(filter)
    except BadRequest:
        pass
    others = await ScopedCollection(collection, "globex").find({})
    assert [record.get("touched") for record in others] == [None] * 4


def unscoped(filter: Any, tenant_id: str) -> Any:
    """What is left of the guard when the mandatory filter is taken out."""
    return filter


async def test_the_mandatory_filter_is_what_keeps_tenants_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    collection = MemoryStore().collection(NAMESPACE)
    await collection.insert([to_store({"_id": "x"}, "acme"), to_store({"_id": "y"}, "globex")])
    own = ScopedCollection(collection, "acme")
    assert await own.count({}) == 1
    monkeypatch.setattr(isolation, "scope", unscoped)
    assert await own.count({}) == 2
    with pytest.raises(GeneralError):
        await own.find({})


UPDATES: list[Any] = [
    {"$set": {"__search__.a": "x"}}, {"$unset": {"__search__": ""}},
    [{"$set": {"app_id": "globex"}}], [], None, "x", {"app_id": "globex"}, {"n": 1}, {"$set": None}, {"$set": [1]},
    {"$set": {"app_id": "globex"}}, {"$set": {"app_id": "acme"}}, {"$set": {"app_id.x": 1}}, {"$unset": {"app_id": ""}},
    {"$rename": {"app_id": "n"}}, {"$rename": {"n": "app_id"}}, {"$rename": {"n": "_id.a"}}, {"$rename": {"n": {"x": 1}}},
    {"$inc": {"app_id": 1}}, {"$push": {"app_id": 1}}, {"$set": {"_id": "x"}}, {"$set": {"_id.a": "globex"}},
    {"$setOnInsert": {"app_id": "globex"}}, {"$min": {"_id.i": 1}}, {"$set": {"n": 1}, "$unset": {"_id": ""}},
]  # fmt: skip


@pytest.mark.parametrize("update", UPDATES)
async def test_no_update_touches_what_binds_a_record_to_its_tenant(update: Any) -> None:
    collection = MemoryCollection(NAMESPACE)
    await collection.insert([to_store({"_id": "x"}, "acme")])
    own = ScopedCollection(collection, "acme")
    with pytest.raises(BadRequest, match=r"cannot be changed|update operators"):
        await own.find_one_and_update({"_id": "x"}, update)
    with pytest.raises(BadRequest, match=r"cannot be changed|update operators"):
        await own.update_many({}, update)
    assert await collection.find({}) == [to_store({"_id": "x"}, "acme")]


async def test_what_is_written_is_stamped_and_what_is_read_is_not() -> None:
    collection = MemoryCollection(NAMESPACE)
    own = ScopedCollection(collection, "acme")
    record = {"n": 1, "app_id": "acme", "_id": HEX}
    await own.insert([record, {"n": 2}])
    assert record == {"n": 1, "app_id": "acme", "_id": HEX}
    stored = await collection.find({"n": 1})
    assert stored == [{"_id": bound(ObjectId(HEX)), "app_id": "acme", "n": 1}]
    assert list(stored[0]) == ["_id", "app_id", "n"]
    assert await own.find({"_id": HEX}) == [{"_id": ObjectId(HEX), "n": 1}]
    replaced = await own.find_one_and_replace({"_id": HEX}, {"n": 3, "_id": "other", "app_id": "acme"})
    assert replaced == {"_id": ObjectId(HEX), "n": 3}
    assert (await collection.find({"n": 3}))[0]["app_id"] == "acme"
    [generated] = await own.find({"n": 2})
    assert isinstance(generated["_id"], ObjectId)
    assert await own.find_one_and_delete({"_id": HEX}) == {"_id": ObjectId(HEX), "n": 3}


async def test_nothing_is_written_for_another_tenant() -> None:
    own = ScopedCollection(MemoryCollection(NAMESPACE), "acme")
    for app_id in ("globex", None, ["acme"], {"$ne": 1}):
        with pytest.raises(BadRequest):
            await own.insert([{"app_id": app_id}])
        with pytest.raises(BadRequest):
            await own.find_one_and_replace({}, {"app_id": app_id})


def test_a_document_of_another_tenant_never_becomes_a_record() -> None:
    with pytest.raises(GeneralError):
        from_store({"_id": {"a": "globex", "i": "x"}, "app_id": "globex"}, "acme")


async def test_the_store_in_memory_refuses_what_is_not_bound_to_its_tenant() -> None:
    collection = MemoryCollection(NAMESPACE)
    for document in (
        {"_id": "x", "app_id": "acme"},
        {"_id": bound("x")},
        {"_id": bound("x"), "app_id": "globex"},
        {"_id": {"i": "x", "a": "acme"}, "app_id": "acme"},
    ):
        with pytest.raises(FeathersError):
            await collection.insert([document])


def test_each_placement_has_its_own_collection() -> None:
    store = MemoryStore()
    made = Isolation(store)
    shared = Tenant("acme", "Acme")
    other = Tenant("globex", "Globex", placement=Placement(model="database", database="roost_globex"))
    assert made.collection(shared, "things").namespace == NAMESPACE
    assert made.collection(other, "things").namespace == Namespace("roost_globex", "things")
    far = Tenant("far-away", "Far", placement=Placement(model="cluster", cluster="elsewhere"))
    with pytest.raises(Unavailable):
        made.collection(far, "things")
