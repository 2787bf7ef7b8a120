from __future__ import annotations

import copy
import math
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import ObjectId
from hypothesis import given
from hypothesis import strategies as st

from hooks.errors import BadRequest
from services.prefix import pattern_of, prefix_of
from services.query import OPERATORS, OPTIONAL_OPERATORS, Paginate, Query, QueryOptions, parse, parse_int

PLAIN = QueryOptions()
PAGED = QueryOptions(paginate=Paginate(10, 50))
ALL = QueryOptions(operators=OPTIONAL_OPERATORS)
HIDING = QueryOptions(hidden=frozenset({"password", "secret.key"}), operators=OPTIONAL_OPERATORS)


@pytest.mark.parametrize("raw", [None, {}])
def test_an_empty_query_asks_for_everything(raw: object) -> None:
    assert parse(raw, PLAIN) == Query({})
    assert parse(raw, PAGED) == Query({}, limit=10)


@pytest.mark.parametrize("raw", ["text", 7, ["a"], True, 1.5])
def test_a_query_that_is_no_object_is_refused(raw: object) -> None:
    with pytest.raises(BadRequest, match="must be an object"):
        parse(raw, PLAIN)


@pytest.mark.parametrize(
    "filter",
    [
        {"name": "Ann", "age": 7, "rate": 1.5, "open": True, "gone": None},
        {"age": {"$gt": 1, "$gte": 1, "$lt": 9, "$lte": 9, "$ne": 5}},
        {"name": {"$in": ["a", None, 1, True], "$nin": []}},
        {"$or": [{"a": 1}, {"$and": [{"b": 2}, {"$or": [{"c": 3}]}]}], "d": 4},
        {"$and": [{"app_id": "acme"}, {"$or": [{"a": 1}]}]},
        {"address.city": "Rome", "tags.0": "x"},
        {"address": {"city": "Rome", "geo": [1, {"x": 2}]}, "list": ["a", {"b": None}], "empty": {}},
        {"owner": ObjectId(), "at": {"$gt": datetime(2026, 1, 1, tzinfo=UTC)}},
    ],
)
def test_what_is_allowed_passes_unchanged(filter: dict[str, Any]) -> None:
    before = copy.deepcopy(filter)
    assert parse(filter, PLAIN).filter == before
    assert filter == before


@pytest.mark.parametrize(
    ("query", "key"),
    [
        ({"$where": "1"}, "$where"),
        ({"$nor": []}, "$nor"),
        ({"$expr": {}}, "$expr"),
        ({"$text": {}}, "$text"),
        ({"$comment": "x"}, "$comment"),
        ({"$and": [{"app_id": "acme"}, {"$where": "1"}]}, "$where"),
        ({"$and": [{"$limit": 1}]}, "$limit"),
    ],
)
def test_an_unknown_filter_is_named(query: dict[str, Any], key: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse(query, ALL)
    assert caught.value.message == f"Invalid filter value {key}"


PARTS: list[tuple[Any, str]] = [
    ({"$where": 1}, "$where"),
    ({"$regex": "(a+)+$"}, "$regex"),
    ({"$exists": True}, "$exists"),
    ({"$startsWith": "a"}, "$startsWith"),
    ({"$not": {"$gt": 1}}, "$not"),
    ({"$elemMatch": {}}, "$elemMatch"),
    ({"$or": [{"a": 1}]}, "$or"),
    ({"$and": [{"a": 1}]}, "$and"),
    ({"$eq": 1}, "$eq"),
    ({"$gt": {"$where": 1}}, "$where"),
    ({"$in": [{"$where": 1}]}, "$where"),
    ({"$in": [[{"a": {"$where": 1}}]]}, "$where"),
    ([{"$where": 1}], "$where"),
    ({"a": {"$gt": 1}}, "$gt"),
    ({"a": 1, "$gt": 1}, "$gt"),
    ({"$gt": 1, "a": 1}, "a"),
    ({"$": 1}, "$"),
]


@pytest.mark.parametrize(("value", "key"), PARTS)
@pytest.mark.parametrize("path", ["n", "$or", "$and"])
def test_an_unknown_operator_is_named_with_its_part(path: str, value: Any, key: str) -> None:
    query = {"n": value} if path == "n" else {path: [{"a": 1}, {"n": value}]}
    with pytest.raises(BadRequest) as caught:
        parse(query, PLAIN)
    assert caught.value.message == f"Invalid query parameter {key}"
    assert key in caught.value.data


FORBIDDEN = (
    "$where $expr $function $accumulator $lookup $regex $text $jsonSchema $out $merge $nor $not $mod $type $all".split()
)


@given(
    st.sampled_from(FORBIDDEN),
    st.lists(st.sampled_from(["$or", "$and", "$in", "$gt", "field", "list", "$sort", "$select"]), max_size=5),
)
def test_no_operator_outside_the_list_passes_at_any_depth(operator: str, shell: list[str]) -> None:
    query: Any = {operator: 1}
    for layer in shell:
        match layer:
            case "$or" | "$and":
                query = {layer: [{"a": 1}, query]}
            case "$in":
                query = {"x": {"$in": [query]}}
            case "$gt":
                query = {"x": {"$gt": query}}
            case "field":
                query = {"x": query}
            case "list":
                query = {"x": [query]}
            case _:
                query = {layer: query}
    with pytest.raises(BadRequest):
        parse(query, ALL)


@pytest.mark.parametrize(
    "path",
    [
        "", ".", "a.", ".a", "a..b", "a.$b", "a\0b", "__proto__", "__class__.x", "constructor", "a.prototype", "_id.i",
        "_id.a", "x" * 257, "\ud800",
    ],
)  # fmt: skip
@pytest.mark.parametrize("shape", ["filter", "sort", "select"])
def test_paths_that_no_record_can_have_are_refused(path: str, shape: str) -> None:
    query = {"filter": {path: 1}, "sort": {"$sort": {path: 1}}, "select": {"$select": [path]}}[shape]
    with pytest.raises(BadRequest, match="Invalid query parameter"):
        parse(query, PLAIN)


@pytest.mark.parametrize("key", ["a.b", "", "$x", "__proto__", "constructor", "a\0"])
def test_keys_inside_values_are_checked(key: str) -> None:
    for value in ({key: 1}, {"a": {key: 1}}, [{key: 1}]):
        with pytest.raises(BadRequest):
            parse({"n": value}, PLAIN)


@pytest.mark.parametrize(
    "query",
    [
        {"$or": []}, {"$or": {}}, {"$or": "x"}, {"$or": None}, {"$and": []}, {"$or": [1]}, {"$or": [None]},
        {"$or": [{"a": 1}] * 21}, {"$and": [{"a": 1}] * 21},
        {"n": {"$in": "a"}}, {"n": {"$in": {"0": "a"}}}, {"n": {"$in": None}}, {"n": {"$in": [1] * 501}},
        {"n": {"$nin": [1] * 501}},
        {"n": math.nan}, {"n": {"$gt": math.inf}}, {"n": [-math.inf]}, {"n": 2**63}, {"n": -(2**63) - 1}, {"n": 10**1000},
        {"n": object()}, {"n": b"x"}, {"n": {1, 2}}, {"n": "\ud800"}, {1: 2},
        {"n": "x" * 17_000}, {"n": {"$in": ["x" * 100] * 200}}, {"n": "é" * 9_000},
        {f"field{number}": 1 for number in range(2_000)},
    ],
)  # fmt: skip
def test_what_is_out_of_bounds_is_refused(query: dict[Any, Any]) -> None:
    with pytest.raises(BadRequest):
        parse(query, PLAIN)


@pytest.mark.parametrize(
    "query",
    [
        {"$or": [{"a": 1}] * 20}, {"n": {"$in": [f"{n:024x}" for n in range(500)]}}, {"n": "x" * 16_000}, {"n": 2**63 - 1}
    ],
)  # fmt: skip
def test_what_is_just_within_bounds_passes(query: dict[str, Any]) -> None:
    parse(query, PLAIN)


def test_depth_is_bounded() -> None:
    def nested(levels: int, layer: str) -> Any:
        value: Any = {"a": 1}
        for _ in range(levels):
            value = {"$or": [value]} if layer == "$or" else {"a": value} if layer == "object" else {"a": [value]}
        return value

    for layer in ("$or", "object", "list"):
        parse(nested(10, layer), PLAIN)
        with pytest.raises(BadRequest, match="deep"):
            parse(nested(40, layer), PLAIN)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("10", 10), ("10abc", 10), ("1e3", 1), (5.9, 5), (-5.9, -5), ("", None), (" 7", 7), ("-3", -3), ("+3", 3),
        ("abc", None), (True, None), (False, None), (None, None), ({}, None), ([], None), (math.nan, None),
        (math.inf, None), ("0x10", 0), ("٣", None), (7, 7), (["5", 6], 5), ([[2]], 2),
    ],
)  # fmt: skip
def test_integers_are_read_as_javascript_does(value: object, expected: int | None) -> None:
    assert parse_int(value) == expected


def test_endless_digits_cost_nothing() -> None:
    assert parse({"$limit": "9" * 5_000}, PAGED).limit == 50


@pytest.mark.parametrize(
    ("limit", "paged", "plain"),
    [
        (None, 10, None), (5, 5, 5), ("5", 5, 5), (0, 0, 0), ("0", 0, 0), (-1, 10, None), (1e9, 50, 10**9),
        (51, 50, 51), ("x", 10, None), ({}, 10, None), (True, 10, None), (0.1, 0, 0),
    ],
)  # fmt: skip
def test_limits(limit: object, paged: int, plain: int | None) -> None:
    assert parse({"$limit": limit}, PAGED).limit == paged
    assert parse({"$limit": limit}, PLAIN).limit == plain


def test_skips() -> None:
    assert [parse({"$skip": raw}, PLAIN).skip for raw in (0, "3", 2.5, "x", None, 10_000)] == [0, 3, 2, 0, 0, 10_000]
    for raw in (-1, "-1", 10_001, 1e9):
        with pytest.raises(BadRequest, match=r"\$skip"):
            parse({"$skip": raw}, PLAIN)


def test_sorts() -> None:
    assert parse({"$sort": {"a": 1, "b.c": "-1", "d": -1.0}}, PLAIN).sort == (("a", 1), ("b.c", -1), ("d", -1))
    for raw in (
        "a",
        ["a"],
        None,
        {"a": 2},
        {"a": 0},
        {"a": "x"},
        {"a": None},
        {"a": {"$meta": "textScore"}},
        {"$a": 1},
    ):
        with pytest.raises(BadRequest):
            parse({"$sort": raw}, PLAIN)
    with pytest.raises(BadRequest, match="at most 8"):
        parse({"$sort": dict.fromkeys("abcdefghi", 1)}, PLAIN)


def test_selects() -> None:
    assert parse({"$select": ["a", "b.c", "a", "b", "d.e"]}, PLAIN).select == ("a", "b", "d.e")
    assert parse({"$select": "name"}, PLAIN).select == ("name",)
    assert parse({"$select": []}, PLAIN).select == ()
    assert parse({"$select": None}, PLAIN).select is None
    for raw in (1, {"a": 1}, [1], [{"$where": 1}], ["$a"], [None], ["a"] * 101):
        with pytest.raises(BadRequest):
            parse({"$select": raw}, PLAIN)


def test_optional_operators_are_off_unless_offered() -> None:
    assert parse({"n": {"$exists": "false"}}, ALL).filter == {"n": {"$exists": False}}
    assert parse({"n": {"$startsWith": "a.*(b"}}, ALL).filter == {"n": {"$regex": r"^a\.\*\(b"}}
    for raw in (
        {"$exists": 1},
        {"$startsWith": ""},
        {"$startsWith": 1},
        {"$startsWith": "a\0"},
        {"$startsWith": "a" * 257},
    ):
        with pytest.raises(BadRequest):
            parse({"n": raw}, ALL)
    with pytest.raises(ValueError, match=r"\$regex"):
        QueryOptions(operators=frozenset({"$regex"}))
    assert not OPERATORS & OPTIONAL_OPERATORS


@pytest.mark.parametrize(
    "query",
    [
        {"password": "x"}, {"password": {"$startsWith": "a"}}, {"password.x": 1}, {"$or": [{"a": 1}, {"password": None}]},
        {"$and": [{"$and": [{"password": {"$exists": True}}]}]}, {"$sort": {"password": 1}}, {"$select": ["password"]},
        {"$select": ["password.x"]}, {"secret.key": 1}, {"secret.0.key": 1}, {"secret.key.deep": 1}, {"password.0": 1},
        {"secret": {"key": "guess"}}, {"$sort": {"secret": 1}}, {"$sort": {"secret.key": 1}}, {"$select": ["secret.key"]},
    ],
)  # fmt: skip
def test_nothing_is_asked_by_a_hidden_field(query: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match=r"Invalid query parameter (password|secret)") as caught:
        parse(query, HIDING)
    assert caught.value.data is None or "guess" not in caught.value.message


def test_what_only_resembles_a_hidden_field_may_be_asked_for() -> None:
    parse({"passwords": 1, "secret.keys": 1, "my.password": 1, "$select": ["secret"]}, HIDING)


@given(st.text(max_size=20).filter(lambda text: "\0" not in text))
def test_a_prefix_survives_its_pattern(prefix: str) -> None:
    assert prefix_of(pattern_of(prefix)) == prefix


@pytest.mark.parametrize("pattern", ["a", "^(a+)+$", "^a.*", "^a|b", "", "^\\d", "^a\\"])
def test_other_patterns_are_no_prefixes(pattern: str) -> None:
    with pytest.raises(ValueError, match="prefixes"):
        prefix_of(pattern)


def test_the_values_of_a_query_are_not_copied() -> None:
    value = {"a": [1]}
    assert parse({"n": value}, PLAIN).filter["n"] is value
