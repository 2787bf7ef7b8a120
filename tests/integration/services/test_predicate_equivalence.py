"""The in-process matcher and mongod agree on every document (LIMITS Q7)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import ObjectId
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from hooks.errors import BadRequest
from services.predicate import TYPES, compile_filter, sort_documents
from services.prefix import pattern_of

Documents = Collection[dict[str, Any]]

QUICK = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), database=None)
LONG = settings(QUICK, max_examples=5_000)

names = st.sampled_from(["a", "b", "0", "1"])
letters = st.sampled_from(["a", "b"])
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, 2, -1, 1.0, 1.5, 2**53, 2**53 + 1, float(2**53), -0.0, 2**62]),
    st.sampled_from(["", "a", "ab", "b", "A", "é", "0", "\U0001f600"]),
    st.sampled_from([ObjectId("0" * 24), ObjectId("1" * 24)]),
    st.sampled_from([datetime(2026, 1, 1, tzinfo=UTC), datetime(1960, 1, 1, 0, 0, 0, 1000, tzinfo=UTC)]),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=2), max_leaves=6
)
documents = st.lists(st.dictionaries(names, values, max_size=3), min_size=2, max_size=8)
paths = st.lists(names, min_size=1, max_size=3).map(".".join)
operations = st.one_of(
    st.tuples(st.sampled_from(["$lt", "$lte", "$gt", "$gte", "$ne"]), values),
    st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(values, max_size=3)),
    st.tuples(st.just("$exists"), st.booleans()),
    st.tuples(st.just("$eq"), values),
    st.tuples(st.just("$type"), st.lists(st.sampled_from(sorted(TYPES)), min_size=1, max_size=3)),
    st.tuples(st.just("$regex"), st.sampled_from(["a", "ab", "é"]).map(pattern_of)),
)
conditions = values | st.lists(operations, min_size=1, max_size=2).map(dict)
leaves = st.dictionaries(paths, conditions, min_size=1, max_size=2)
filters = st.recursive(
    leaves,
    lambda inner: st.builds(
        lambda key, parts: {key: parts},
        st.sampled_from(["$and", "$or", "$nor"]),
        st.lists(inner, min_size=1, max_size=2),
    ),
    max_leaves=3,
)
directions = st.sampled_from([1, -1])
letter_paths = st.lists(letters, min_size=1, max_size=3).map(".".join)
sorts = st.dictionaries(paths, directions, min_size=1, max_size=1) | st.dictionaries(
    letter_paths, directions, min_size=1, max_size=3
)


@pytest.fixture(scope="module")
def collection(mongod: str) -> Iterator[Documents]:
    client: MongoClient[dict[str, Any]] = MongoClient(mongod, tz_aware=True)
    with client:
        yield client["test_predicate"]["documents"]
        client.drop_database("test_predicate")


def keep(collection: Documents, documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kept = [{"_id": number, **document} for number, document in enumerate(documents)]
    collection.delete_many({})
    collection.insert_many(kept)
    return kept


def check_matches(collection: Documents, documents: list[dict[str, Any]], filter: dict[str, Any]) -> None:
    kept = keep(collection, documents)
    found = [document["_id"] for document in collection.find(filter, {"_id": 1}).sort("_id")]
    matches = compile_filter(filter)
    assert [document["_id"] for document in kept if matches(document)] == found, (kept, filter)


def check_order(collection: Documents, documents: list[dict[str, Any]], sort: dict[str, int]) -> None:
    order = [*sort.items(), ("_id", 1)]
    kept = keep(collection, documents)
    try:
        found = [document["_id"] for document in collection.find({}, {"_id": 1}).sort(order)]
    except OperationFailure:
        # By the element of an array that may as well be a field's name: the server calls that ambiguous.
        assume(not any(character.isdigit() for path in sort for character in path))
        with pytest.raises(BadRequest):
            sort_documents(kept, order)
        return
    sort_documents(kept, order)
    assert [document["_id"] for document in kept] == found, (kept, order)


@QUICK
@given(documents, filters)
def test_matching(collection: Documents, documents: list[dict[str, Any]], filter: dict[str, Any]) -> None:
    check_matches(collection, documents, filter)


@QUICK
@given(documents, sorts)
def test_sorting(collection: Documents, documents: list[dict[str, Any]], sort: dict[str, int]) -> None:
    check_order(collection, documents, sort)


@pytest.mark.load
@pytest.mark.timeout(900)
@LONG
@given(documents, filters)
def test_matching_thoroughly(collection: Documents, documents: list[dict[str, Any]], filter: dict[str, Any]) -> None:
    check_matches(collection, documents, filter)


@pytest.mark.load
@pytest.mark.timeout(900)
@LONG
@given(documents, sorts)
def test_sorting_thoroughly(collection: Documents, documents: list[dict[str, Any]], sort: dict[str, int]) -> None:
    check_order(collection, documents, sort)


@pytest.mark.parametrize("operator", ["$lt", "$lte", "$gt", "$gte", "$ne"])
def test_infinite_numbers_in_documents_compare_as_numbers(collection: Documents, operator: str) -> None:
    check_matches(collection, [{"a": math.inf}, {"a": -math.inf}, {"a": 0}, {"a": "x"}], {"a": {operator: 0}})
