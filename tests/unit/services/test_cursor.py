from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from bson import Code, DBRef, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp

from hooks.errors import BadRequest
from services.cursor import Order

ORDER = Order((("n", 1), ("_id", 1)), "acme", "todos")


def forged(values: Any, **others: Any) -> str:
    """A cursor of this order that no page has given out."""
    seal = base64.urlsafe_b64decode(ORDER.cursor({"_id": "x"}) + "==")[:8]
    return base64.urlsafe_b64encode(seal + bson.encode({"v": values, **others})).rstrip(b"=").decode()


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "value",
    [None, True, 1, 2**62, 1.5, "x", b"x", ObjectId(), datetime(2026, 1, 1, tzinfo=UTC), {}, {"a": [1, {"$where": 1}]}],
)
def test_a_cursor_can_say_any_value_of_a_record(value: Any) -> None:
    assert forged([value, "x"]) == ORDER.cursor({"_id": "x", "n": value})
    for forward in (True, False):
        ORDER.beyond(forged([value, "x"]), forward=forward)


@pytest.mark.parametrize(
    "values",
    [
        [], [1], [1, "x", 2], {"0": 1, "1": "x"}, "x", None, [1, None], [1, True], [1, 5], [1, {"$gt": ""}], [1, ["x"]],
        [[1], "x"], [Regex("(a+)+$"), "x"], [Code("1"), "x"], [MinKey(), "x"], [MaxKey(), "x"], [Timestamp(1, 1), "x"],
        [DBRef("a", 1), "x"], [{"a": Regex("a")}, "x"], [{"a": [Code("1")]}, "x"], [nested(40), "x"],
        [Decimal128("1"), "x"], [1, Regex("a")],
    ],
)  # fmt: skip
def test_what_no_page_gives_out_is_refused(values: Any) -> None:
    with pytest.raises(BadRequest, match="not a cursor"):
        ORDER.beyond(forged(values), forward=True)


def test_very_deep_values_do_no_harm() -> None:
    for levels in (300, 700):
        with pytest.raises(BadRequest):
            ORDER.beyond(forged([nested(levels), "x"]), forward=True)


@pytest.mark.parametrize("cut", [1, 8, 9, 12, 20])
def test_a_part_of_a_cursor_is_none(cut: int) -> None:
    cursor = ORDER.cursor({"_id": "x", "n": "some text"})
    with pytest.raises(BadRequest):
        ORDER.beyond(cursor[:-cut], forward=True)


def test_fields_behind_the_id_say_nothing() -> None:
    assert Order((("_id", -1), ("n", 1))).sort == (("_id", -1),)
    assert Order((("n", 1), ("_id", -1))).reversed == (("n", -1), ("_id", 1))


def test_what_a_cursor_means() -> None:
    cursor = ORDER.cursor({"_id": "x", "n": 5})
    assert ORDER.beyond(cursor, forward=False) == {
        "$or": [{"n": {"$lt": 5}}, {"n": {"$eq": None}}, {"n": {"$eq": 5}, "_id": {"$lt": "x"}}],
        "$nor": [{"n": {"$gt": 5}}],
    }
