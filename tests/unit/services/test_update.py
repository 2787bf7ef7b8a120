from __future__ import annotations

import math
from typing import Any

import pytest
from bson import ObjectId

from hooks.errors import BadRequest
from services.update import MAX_CHANGES, MAX_EACH, UPDATE_OPERATORS, read_update, roots

FIXED = frozenset({"_id", "key"})


def read(data: dict[str, Any]) -> dict[str, Any]:
    return read_update(data, UPDATE_OPERATORS, FIXED)


@pytest.mark.parametrize(
    ("data", "update"),
    [
        ({"a": 1, "$inc": {"n": 2}}, {"$set": {"a": 1}, "$inc": {"n": 2}}),
        ({"a": 1, "$set": {"b.c": 2}}, {"$set": {"a": 1, "b.c": 2}}),
        ({"_id": "x", "key": "y", "$set": {"b": 1}}, {"$set": {"b": 1}}),
        ({"$unset": {"a": True, "b.0": ""}}, {"$unset": {"a": "", "b.0": ""}}),
        ({"$inc": {}, "$set": {}}, {}),
        ({"$min": {"a": None}, "$max": {"b": "x"}, "$mul": {"c": 1.5}},) * 2,
        ({"$push": {"a": 1, "b": {"x": 1}, "c": [1], "d": {"$each": [1], "$slice": -5, "$position": 0}}},) * 2,
        ({"$addToSet": {"a": {"$each": []}, "b": ObjectId("0" * 24)}},) * 2,
        ({"$pull": {"a": 1, "b": {"$in": [1]}, "c": {"x": {"$gt": 1}, "_id": "y"}, "d": [1], "e": None}},) * 2,
        ({"$set": {"a.9999": 1, "ab": 1, "a-b": 1}},) * 2,
    ],
)  # fmt: skip
def test_what_is_allowed(data: dict[str, Any], update: dict[str, Any]) -> None:
    assert read(data) == update


@pytest.mark.parametrize(
    "operator", ["$rename", "$setOnInsert", "$currentDate", "$bit", "$pop", "$pullAll", "$where", "$"]
)
def test_no_other_operator_is_known(operator: str) -> None:
    with pytest.raises(BadRequest, match=r"Invalid key '\$") as caught:
        read({operator: {"a": "b"}})
    assert "$inc" in caught.value.message


def test_what_is_not_offered_is_refused() -> None:
    with pytest.raises(BadRequest, match=r"may not begin with '\$', except \$inc$"):
        read_update({"$push": {"a": 1}}, frozenset({"$inc"}), FIXED)
    with pytest.raises(BadRequest, match=r"may not begin with '\$'$"):
        read_update({"$inc": {"a": 1}}, frozenset(), FIXED)


@pytest.mark.parametrize("operator", UPDATE_OPERATORS)
@pytest.mark.parametrize(
    "path",
    [
        "_id", "_id.a", "key", "key.x", "", ".", "a.", ".a", "a..b", "$a", "a.$", "a.$[]", "a.$[x].b", "a.$b", "a\0",
        "__proto__", "a.constructor", "__search__", "__search__.a", "x" * 257, "a.10000", "a.99999999999", "\ud800",
    ],
)  # fmt: skip
def test_paths_that_cannot_be_changed(operator: str, path: str) -> None:
    operand: Any = 1
    with pytest.raises(BadRequest):
        read({operator: {"fine": operand, path: operand}})


@pytest.mark.parametrize(
    "data",
    [
        {"a": 1, "$set": {"a": 1}}, {"a": 1, "$inc": {"a": 1}}, {"$inc": {"a": 1}, "$mul": {"a": 1}},
        {"$set": {"a.b": 1}, "$unset": {"a": 1}}, {"a": {}, "$push": {"a.b.c": 1}}, {"$set": {"a": 1, "a.b": 1}},
        {"$set": {"a.b": 1}, "$inc": {"a.b.c": 1}},
    ],
)  # fmt: skip
def test_no_path_is_changed_twice(data: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match=r"at once|changed twice"):
        read(data)


MODIFIERS: list[Any] = [
    {"$each": 1}, {"$each": [1], "x": 1}, {"$each": [{"$x": 1}]}, {"$each": [1] * (MAX_EACH + 1)}, {"$slice": 1},
    {"$each": [1], "$sort": 1}, {"$position": 1},
]  # fmt: skip
NOT_TO_BE_KEPT: list[Any] = [{"$where": 1}, {"b": {"$gt": 1}}, [{"$x": 1}], {"b.c": 1}, {"__proto__": 1}, {"": 1}]
NO_MATCHES: list[Any] = [
    {"$where": "1"}, {"$regex": "(a+)+$"}, {"b": {"$regex": "x"}}, {"$in": [{"$where": 1}]}, {"$elemMatch": {}},
    {"b": 1, "$where": "1"}, {"$or": [{"b": 1}]}, {"$in": [1] * 501}, {"b.c.__proto__": 1}, {"$exists": True},
]  # fmt: skip
NO_NUMBERS: list[Any] = ["1", None, True, [], {}, math.nan, math.inf]
NO_SINGLE_VALUES: list[Any] = [[], {}, [1], {"$gt": 1}]


@pytest.mark.parametrize(
    "data",
    [
        *[{operator: changes} for operator in UPDATE_OPERATORS for changes in (None, 1, "a", ["a"], [{"a": 1}])],
        *[{operator: {"a": operand}} for operator in ("$inc", "$mul") for operand in NO_NUMBERS],
        *[{operator: {"a": operand}} for operator in ("$min", "$max") for operand in NO_SINGLE_VALUES],
        *[{operator: {"a": operand}} for operator in ("$set", "$push", "$addToSet") for operand in NOT_TO_BE_KEPT],
        *[{operator: {"a": operand}} for operator in ("$push", "$addToSet") for operand in MODIFIERS],
        {"$addToSet": {"a": {"$each": [1], "$slice": 1}}}, {"$push": {"a": {"$each": [1], "$slice": "1"}}},
        {"$push": {"a": {"$each": [1], "$slice": True}}}, {"$push": {"a": {"$each": [1], "$position": 2**40}}},
        *[{"$pull": {"a": operand}} for operand in NO_MATCHES],
        {"$set": {f"f{number}": 1 for number in range(MAX_CHANGES + 1)}},
    ],
)  # fmt: skip
def test_what_does_not_fit_its_operator(data: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        read(data)


def test_the_touched_fields() -> None:
    assert roots({"$set": {"a": 1, "b.c": 1}, "$inc": {"b.d": 1}}) == {"a", "b"}
