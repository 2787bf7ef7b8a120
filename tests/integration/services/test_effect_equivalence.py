"""The update operators in process and in mongod make the same of every document, or refuse it alike."""

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
from services.effect import apply
from services.predicate import key_of
from services.update import UPDATE_OPERATORS, read_update

Documents = Collection[dict[str, Any]]

QUICK = settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck), database=None)
LONG = settings(QUICK, max_examples=5_000)

names = st.sampled_from(["a", "b", "c", "0", "1"])
numbers = st.sampled_from([0, 1, 2, -1, 5, 1.5, -0.5, 2**62, 2**31])
scalars = st.one_of(
    numbers,
    st.none(),
    st.booleans(),
    st.sampled_from(["", "a", "ab", "b"]),
    st.just(ObjectId("0" * 24)),
    st.just(datetime(2026, 1, 1, tzinfo=UTC)),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=2), max_leaves=5
)
documents = st.dictionaries(names, values | st.lists(scalars, max_size=4), max_size=3)
paths = st.lists(names, min_size=1, max_size=3).map(".".join)
items = values | st.builds(
    lambda each, more: {"$each": each, **more},
    st.lists(values, max_size=3),
    st.fixed_dictionaries({}, optional={"$position": st.integers(-3, 4), "$slice": st.integers(-3, 4)}),
)
comparing = st.tuples(st.sampled_from(["$lt", "$gte", "$ne"]), scalars) | st.tuples(
    st.just("$in"), st.lists(values, max_size=3)
)
matches = (
    values | comparing.map(lambda one: dict([one])) | st.dictionaries(names, comparing.map(lambda one: dict([one])))
)
operands = {
    "$set": values,
    "$unset": st.just(True),
    "$inc": numbers,
    "$mul": numbers,
    "$min": scalars,
    "$max": scalars,
    "$push": items,
    "$addToSet": values | st.builds(lambda each: {"$each": each}, st.lists(values, max_size=3)),
    "$pull": matches,
}
changes = st.lists(
    st.sampled_from(UPDATE_OPERATORS).flatmap(lambda name: st.tuples(st.just(name), paths, operands[name])),
    min_size=1,
    max_size=3,
)


@pytest.fixture(scope="module")
def collection(mongod: str) -> Iterator[Documents]:
    client: MongoClient[dict[str, Any]] = MongoClient(mongod, tz_aware=True)
    with client:
        yield client["test_effect"]["documents"]
        client.drop_database("test_effect")


def data_of(steps: list[tuple[str, str, Any]]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for operator, path, operand in steps:
        data.setdefault(operator, {})[path] = operand
    return data


def check(collection: Documents, document: dict[str, Any], steps: list[tuple[str, str, Any]]) -> None:
    try:
        update = read_update(data_of(steps), UPDATE_OPERATORS, ("_id",))
    except BadRequest:
        assume(False)
    collection.replace_one({"_id": 1}, {"_id": 1, **document}, upsert=True)
    stored = collection.find_one({"_id": 1})
    assert stored is not None
    try:
        collection.update_one({"_id": 1}, update)
    except OperationFailure:
        with pytest.raises(BadRequest):
            apply(stored, update)
        return
    found = collection.find_one({"_id": 1})
    assert found is not None
    assert {name: key_of(value) for name, value in apply(stored, update).items()} == {
        name: key_of(value) for name, value in found.items()
    }, (stored, update)


@QUICK
@given(documents, changes)
def test_changes(collection: Documents, document: dict[str, Any], steps: list[tuple[str, str, Any]]) -> None:
    check(collection, document, steps)


@pytest.mark.load
@pytest.mark.timeout(900)
@LONG
@given(documents, changes)
def test_changes_thoroughly(collection: Documents, document: dict[str, Any], steps: list[tuple[str, str, Any]]) -> None:
    check(collection, document, steps)


def test_numbers_may_become_infinite(collection: Documents) -> None:
    check(collection, {"a": 1e308}, [("$mul", "a", 1e308)])
    found = collection.find_one({"_id": 1})
    assert found is not None
    assert found["a"] == math.inf
