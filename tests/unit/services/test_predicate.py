from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import ObjectId

from hooks.errors import BadRequest
from services.predicate import compile_filter, key_of, sort_documents
from services.prefix import pattern_of

MATCHES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"a": 1}, {"a": 1.0}),
    ({"a": True}, {"a": True}),
    ({"a": None}, {"a": None}),
    ({}, {"a": None}),
    ({"a": [1, 2]}, {"a": 2}),
    ({"a": [1, 2]}, {"a": [1, 2]}),
    ({"a": [1, 2]}, {"a": {"$gt": 1, "$lt": 2}}),
    ({"a": {"x": 1, "y": 2}}, {"a": {"x": 1, "y": 2}}),
    ({"a": [{"b": 1}, {"b": 2}]}, {"a.b": 2}),
    ({"a": [{"b": 1}]}, {"a.0.b": 1}),
    ({"a": [[1, 2]]}, {"a.0": [1, 2]}),
    ({"a": 5}, {"a.b": None}),
    ({"a": [1]}, {"a.b": {"$exists": False}}),
    ({}, {"a": {"$ne": 1}}),
    ({}, {"a": {"$nin": [1]}}),
    ({}, {"a": {"$in": [None]}}),
    ({}, {"a": {"$lte": None}}),
    ({"a": "b"}, {"a": {"$gt": "a"}}),
    ({"a": ["xy", 1]}, {"a": {"$regex": pattern_of("x")}}),
    ({"a": ObjectId("0" * 24)}, {"a": {"$lt": ObjectId("1" * 24)}}),
    ({"a": datetime(2026, 1, 1, tzinfo=UTC)}, {"a": {"$gte": datetime(2025, 1, 1, tzinfo=UTC)}}),
    ({"a": 1, "b": 2}, {"$or": [{"a": 9}, {"$and": [{"a": 1}, {"b": 2}]}]}),
    ({"a": 2**53 + 1}, {"a": {"$gt": float(2**53)}}),
]

MISSES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"a": 1}, {"a": True}),
    ({"a": True}, {"a": 1}),
    ({"a": 1}, {"a": "1"}),
    ({"a": 0}, {"a": None}),
    ({"a": 1}, {"a": {"$lt": "2"}}),
    ({"a": True}, {"a": {"$gt": 0}}),
    ({"a": {"x": 1, "y": 2}}, {"a": {"y": 2, "x": 1}}),
    ({"a": {"x": 1, "y": 2}}, {"a": {"x": 1}}),
    ({"a": [1, 2]}, {"a": [2, 1]}),
    ({"a": [1, 2]}, {"a": {"$ne": 1}}),
    ({"a": []}, {"a": None}),
    ({"a": [1, 2]}, {"a.b": None}),
    ({"a": [[{"b": 1}]]}, {"a.b": 1}),
    ({"a": [[1]]}, {"a.0": 1}),
    ({}, {"a": {"$exists": True}}),
    ({"a": None}, {"a": {"$exists": False}}),
    ({}, {"a": {"$gt": None}}),
    ({"a": "yx"}, {"a": {"$regex": pattern_of("x")}}),
    ({"a": 1}, {"a": {"$in": []}}),
    ({"a": 1}, {"$nor": [{"a": 1}]}),
]


@pytest.mark.parametrize(("document", "filter"), MATCHES)
def test_matches(document: dict[str, Any], filter: dict[str, Any]) -> None:
    assert compile_filter(filter)(document)


@pytest.mark.parametrize(("document", "filter"), MISSES)
def test_misses(document: dict[str, Any], filter: dict[str, Any]) -> None:
    assert not compile_filter(filter)(document)


@pytest.mark.parametrize(
    "filter",
    [{"$where": "1"}, {"a": {"$regex": "(a+)+$"}}, {"a": {"$mod": [2, 0]}}, {"$expr": {}}, {"a": {"$not": {"$gt": 1}}}],
)
def test_what_is_not_ours_is_not_matched(filter: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="matched"):
        compile_filter(filter)


def test_a_prefix_is_matched_in_no_time() -> None:
    matches = compile_filter({"a": {"$regex": pattern_of("(a+)+$")}})
    begun = time.perf_counter()
    assert not matches({"a": "a" * 26 + "b"})
    assert matches({"a": "(a+)+$ and more"})
    assert time.perf_counter() - begun < 0.1


def test_values_sort_by_kind_and_then_by_value() -> None:
    ordered: list[Any] = [
        None, -1, 0.5, 1, 2**60, "", "A", "a", "é", {}, {"a": 1}, {"b": 1}, {"a": "x"}, [], [1], [1, 2], [2],
        ObjectId("0" * 24), ObjectId("1" * 24), False, True, datetime(1960, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC),
    ]  # fmt: skip
    keys = [key_of(value) for value in ordered]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)


def sorted_ids(documents: list[dict[str, Any]], *sort: tuple[str, int]) -> list[int]:
    sort_documents(documents, sort)
    return [document["id"] for document in documents]


def test_sorting_by_several_fields_in_both_directions() -> None:
    documents: list[dict[str, Any]] = [
        {"id": 1, "a": 2, "b": "x"},
        {"id": 2, "a": 1},
        {"id": 3, "a": 2, "b": "y"},
        {"id": 4},
    ]
    assert sorted_ids([*documents], ("a", 1), ("b", -1)) == [4, 2, 3, 1]
    assert sorted_ids([*documents], ("a", -1), ("b", 1)) == [1, 3, 2, 4]


def test_an_array_sorts_by_its_least_or_greatest_element() -> None:
    documents: list[dict[str, Any]] = [
        {"id": 1, "a": [5, 1]},
        {"id": 2, "a": 3},
        {"id": 3, "a": []},
        {"id": 4, "a": [{"b": 1}]},
    ]
    assert sorted_ids([*documents], ("a", 1)) == [3, 1, 2, 4]
    assert sorted_ids([*documents], ("a", -1)) == [4, 1, 2, 3]


def test_fields_of_one_array_sort_together_and_those_of_two_not_at_all() -> None:
    documents = [{"id": 1, "a": [{"b": 1, "c": 5}, {"b": 2, "c": 9}]}, {"id": 2, "a": [{"b": 1, "c": 7}]}]
    assert sorted_ids([*documents], ("a.b", 1), ("a.c", -1)) == [2, 1]
    with pytest.raises(BadRequest, match="two arrays"):
        sort_documents([{"a": [1], "b": [2]}], [("a", 1), ("b", 1)])
