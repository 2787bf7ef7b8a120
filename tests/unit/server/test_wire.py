"""The wire bounds what comes in (LIMITS P3, P4, P5) and writes JSON as Feathers does."""

from __future__ import annotations

import json
from collections import OrderedDict
from datetime import UTC, datetime, timedelta, timezone
from http import HTTPStatus
from typing import Any

import pytest
from bson import ObjectId

from hooks.errors import BadRequest
from hooks.internal import Kept
from server import wire


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize("key", ["", "\0", "a\0b", "__proto__", "constructor", "prototype", "__class__", "k" * 257])
@pytest.mark.parametrize("check", [wire.check, wire.check_data])
def test_dangerous_keys_are_refused_everywhere(key: str, check: Any) -> None:
    for value in ({key: 1}, {"a": {key: 1}}, [{"a": [{key: 1}]}]):
        with pytest.raises(BadRequest):
            check(value)


@pytest.mark.parametrize("key", ["$where", "$", "a.b", "a..b", ".a", "a."])
def test_operators_and_paths_are_refused_in_data_alone(key: str) -> None:
    wire.check({key: 1})
    for value in ({key: 1}, {"a": {key: 1}}, {"a": [[{key: 1}]]}):
        with pytest.raises(BadRequest, match="key"):
            wire.check_data(value)


def test_nesting_is_bounded() -> None:
    wire.check(nested(32))
    for depth in (33, 500):
        with pytest.raises(BadRequest, match="deep"):
            wire.check(nested(depth))


def test_the_number_of_values_is_bounded() -> None:
    wire.check([0] * 10_000)
    with pytest.raises(BadRequest, match="many"):
        wire.check([0] * 10_001)
    with pytest.raises(BadRequest, match="many"):
        wire.check([[0] * 100] * 101)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), 2**63, -(2**63) - 1])
def test_numbers_that_no_database_keeps_are_refused(number: Any) -> None:
    for value in (number, {"n": number}, [number]):
        with pytest.raises(BadRequest):
            wire.check_data(value)


def test_ordinary_values_pass() -> None:
    values: list[Any] = [None, True, 0, -0.0, 2**63 - 1, "", "text", [], {}, {"a_b-c d": [None, {"é": 1}]}]
    for value in values:
        wire.check_data(value)


def test_values_look_as_in_feathers() -> None:
    id = ObjectId("65a000000000000000000001")
    east = timezone(timedelta(hours=2))
    value = {
        "id": id,
        "epoch": datetime(1970, 1, 1, tzinfo=UTC),
        "naive": datetime(2026, 1, 2, 3, 4, 5, 678_901),
        "east": datetime(2026, 1, 2, 3, 4, 5, tzinfo=east),
        "nan": float("nan"),
        "inf": float("inf"),
    }
    assert json.loads(wire.encode(value)) == {
        "id": "65a000000000000000000001",
        "epoch": "1970-01-01T00:00:00.000Z",
        "naive": "2026-01-02T03:04:05.678Z",
        "east": "2026-01-02T01:04:05.000Z",
        "nan": None,
        "inf": None,
    }


def test_what_has_no_wire_form_is_an_error() -> None:
    with pytest.raises(TypeError):
        wire.encode({"o": object()})


def test_an_internal_record_shows_what_may_leave() -> None:
    record = Kept({"name": "Ada", "secret": "s"}, {"name": "Ada"})
    assert json.loads(wire.encode({"author": record, "list": [record]})) == {
        "author": {"name": "Ada"},
        "list": [{"name": "Ada"}],
    }


def test_subclasses_are_written_as_what_they_are() -> None:
    class Text(str):
        __slots__ = ()

    assert json.loads(wire.encode([HTTPStatus.OK, Text("t"), OrderedDict(a=1), (1, 2)])) == [200, "t", {"a": 1}, [1, 2]]


def test_operators_may_stand_at_the_top_where_they_are_offered() -> None:
    offered = frozenset({"$inc", "$push"})
    allowed: list[Any] = [{"$inc": {"a.b": 1}}, {"a": 1, "$push": {"b": {"$each": [1]}}}, {}, [], None]
    for data in allowed:
        wire.check_data(data, offered)
    refused: list[Any] = [
        {"$set": {"a": 1}}, {"a": {"$inc": {"b": 1}}}, [{"$inc": {"a": 1}}], {"a.b": 1, "$inc": {"c": 1}},
        {"$inc": {"__proto__": 1}},
        {"$inc": {"a": 2**63}}, {"$push": {"a": {"constructor": 1}}}, {"$inc": {"a": 1}, "b": {"$x": 1}},
    ]  # fmt: skip
    for data in refused:
        with pytest.raises(BadRequest):
            wire.check_data(data, offered)
    with pytest.raises(BadRequest):
        wire.check_data({"$inc": {"a": 1}})
