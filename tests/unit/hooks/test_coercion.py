"""Query strings hold nothing but text; the declared schema says what was meant."""

from __future__ import annotations

from typing import Any

import pytest

from hooks.coercion import coerce_query
from hooks.context import HookContext, Params
from hooks.errors import BadRequest
from hooks.schema import Schema
from hooks.tenant import Tenant

SCHEMA = Schema(
    {
        "name": {"type": "string"},
        "age": {"type": "number"},
        "count": {"type": "integer"},
        "done": {"type": "boolean"},
        "rank": {"type": ["number", "null"]},
        "either": {"type": ["number", "string"]},
        "scores": {"type": "array", "items": {"type": "number"}},
        "lines": {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "integer"}}}},
        "address": {"type": "object", "properties": {"floor": {"type": "integer"}}},
        "free": {"enum": ["1", 2]},
    }
)


def coerced(query: Any, provider: str | None = "rest") -> Any:
    params = Params(tenant=Tenant("acme", "Acme"), provider=provider, query=query)
    context = HookContext(app=None, service=None, path="people", method="find", params=params)  # type: ignore[arg-type]
    coerce_query(SCHEMA)(context)
    return params.query


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"age": "25"}, {"age": 25}),
        ({"age": "-2.5e1"}, {"age": -25}),
        ({"age": "+.5"}, {"age": 0.5}),
        ({"age": {"$gt": "18", "$lt": "30"}}, {"age": {"$gt": 18, "$lt": 30}}),
        ({"count": {"$in": ["1", "2"], "$nin": ["3"]}}, {"count": {"$in": [1, 2], "$nin": [3]}}),
        ({"done": "true"}, {"done": True}),
        ({"done": {"$ne": "false"}}, {"done": {"$ne": False}}),
        ({"rank": ""}, {"rank": None}),
        ({"age": {"$ne": ""}}, {"age": {"$ne": None}}),
        ({"age": "1" * 20}, {"age": float("1" * 20)}),
        ({"scores": "7"}, {"scores": 7}),
        ({"scores": ["1", "2"]}, {"scores": [1, 2]}),
        ({"scores.0": "7"}, {"scores.0": 7}),
        ({"lines.n": "7"}, {"lines.n": 7}),
        ({"lines.3.n": "7"}, {"lines.3.n": 7}),
        ({"address.floor": {"$gte": "4"}}, {"address.floor": {"$gte": 4}}),
        (
            {"$or": [{"age": "1"}, {"$and": [{"done": "false"}]}], "$limit": "5"},
            {"$or": [{"age": 1}, {"$and": [{"done": False}]}], "$limit": "5"},
        ),
    ],
)
def test_values_get_the_declared_type(query: Any, expected: Any) -> None:
    assert repr(coerced(query)) == repr(expected)


@pytest.mark.parametrize(
    "query",
    [
        {"name": "25"},
        {"unknown": "25"},
        {"either": "25"},
        {"free": "1"},
        {"address.street": "5"},
        {"age": {"$exists": "true"}},
        {"age": {"$startsWith": "1"}},
        {"$or": "1"},
        {"$or": ["1"]},
        "age",
    ],
)
def test_what_may_be_text_or_is_none_of_the_schema_s_business_stays_as_it_is(query: Any) -> None:
    assert coerced(query) == query


@pytest.mark.parametrize(
    ("query", "path", "message"),
    [
        ({"age": "old"}, "/age", "must be number"),
        ({"age": "0x1F"}, "/age", "must be number"),
        ({"age": "1_000"}, "/age", "must be number"),
        ({"age": " 1"}, "/age", "must be number"),
        ({"age": "१"}, "/age", "must be number"),
        ({"age": "NaN"}, "/age", "must be number"),
        ({"age": "1e999"}, "/age", "must be number"),
        ({"age": "1" * 40}, "/age", "must be number"),
        ({"done": "yes"}, "/done", "must be boolean"),
        ({"rank": "high"}, "/rank", "must be null or number"),
        ({"age": {"$gt": "18", "$lt": "x"}}, "/age/$lt", "must be number"),
        ({"count": {"$in": ["1", "x"]}}, "/count/$in/1", "must be integer"),
        ({"lines.3.n": "x"}, "/lines.3.n", "must be integer"),
        ({"$or": [{"name": "x"}, {"age": "x"}]}, "/$or/1/age", "must be number"),
    ],
)
def test_what_has_no_form_of_the_type_is_refused(query: Any, path: str, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        coerced(query)
    assert caught.value.data == [{"path": path, "message": message}]


@pytest.mark.parametrize("provider", ["socketio", None])
def test_only_query_strings_are_coerced(provider: str | None) -> None:
    assert coerced({"age": "25", "count": "x"}, provider) == {"age": "25", "count": "x"}


def test_the_clients_own_query_is_left_alone() -> None:
    query = {"age": "25", "$or": [{"done": "true"}]}
    coerced(query)
    assert query == {"age": "25", "$or": [{"done": "true"}]}
