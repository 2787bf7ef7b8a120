"""Conditions: rules' queries in the form in which records are kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from bson import ObjectId

from hooks.conditions import Conditions, moment_text, stored_id
from hooks.fields import read_fields

HEX = "65a000000000000000000001"
ID = ObjectId(HEX)
NOW = datetime(2026, 1, 31, 12, 0, 0, 5000, tzinfo=UTC)
TEXT, MILLISECONDS = "2026-01-31T12:00:00.005Z", 1769860800005
FIELDS = read_fields(
    {
        "owner": {"type": "string", "objectid": True},
        "members": {"type": "array", "items": {"type": "string", "objectid": True}},
        "at": {"type": "string", "format": "date-time"},
        "ms": {"type": "integer"},
        "flag": {"type": "boolean"},
        "n": {"type": ["number", "null"]},
    }
)


@pytest.mark.parametrize(
    ("query", "prepared"),
    [
        ({"a": 1, "b": {"$in": ["x"]}}, {"a": 1, "b": {"$in": ["x"]}}),
        ({"owner": HEX, "other": HEX}, {"owner": ID, "other": HEX}),
        ({"owner": {"$in": [HEX, "x"], "$ne": HEX}}, {"owner": {"$in": [ID, "x"], "$ne": ID}}),
        ({"members": HEX}, {"members": ID}),
        ({"members": [HEX]}, {"members": [ID]}),
        (
            {"$or": [{"owner": HEX}, {"$and": [{"members": HEX}]}]},
            {"$or": [{"owner": ID}, {"$and": [{"members": ID}]}]},
        ),
        ({"at": {"$lte": NOW}}, {"at": {"$lte": TEXT}}),
        ({"ms": {"$lte": NOW}}, {"ms": {"$lte": MILLISECONDS}}),
        ({"n": {"$gt": NOW}}, {"n": {"$gt": MILLISECONDS}}),
        ({"flag": {"$lt": NOW}}, {"flag": {"$lt": NOW}}),
        ({"x": {"$lte": NOW}}, {"$or": [{"x": {"$lte": TEXT}}, {"x": {"$lte": MILLISECONDS}}, {"x": {"$lte": NOW}}]}),
        (
            {"at": {"$lte": NOW, "$gt": "2025"}, "a": 1},
            {"$and": [{"at": {"$gt": "2025"}}, {"at": {"$lte": TEXT}}], "a": 1},
        ),
        (
            {"x": {"$lt": NOW}, "y": {"$lt": NOW}},
            {
                "$and": [
                    {"$or": [{"x": {"$lt": TEXT}}, {"x": {"$lt": MILLISECONDS}}, {"x": {"$lt": NOW}}]},
                    {"$or": [{"y": {"$lt": TEXT}}, {"y": {"$lt": MILLISECONDS}}, {"y": {"$lt": NOW}}]},
                ]
            },
        ),
        ({"_id": HEX}, {"_id": ID}),
        ({"_id": "plain"}, {"_id": "plain"}),
        ({"_id": {"$in": [HEX, True, None, 5]}}, {"_id": {"$in": [ID, "5"]}}),
        ({"_id": ["a"]}, {"_id": {"$in": []}}),
        ({"_id": None}, {"_id": {"$in": []}}),
        ({"_id": {"$ne": None}}, {"_id": {"$nin": []}}),
        ({"_id": {"$gt": True}}, {"_id": {"$in": []}}),
        ({"_id": {"$gt": HEX}}, {"_id": {"$gt": ID}}),
    ],
)
def test_what_becomes_of_a_query(query: dict[str, Any], prepared: dict[str, Any]) -> None:
    before = repr(query)
    assert Conditions(FIELDS)(query) == prepared
    assert repr(query) == before


def test_moments_are_texts_in_utc() -> None:
    assert moment_text(datetime(2026, 1, 31, 14, tzinfo=timezone(timedelta(hours=2)))) == "2026-01-31T12:00:00.000Z"


def test_ids_as_they_are_kept() -> None:
    given: list[Any] = [HEX.upper(), ID, "x", 5, 5.0, 5.5, True, "", None, [], {}]
    assert [*map(stored_id, given)] == [ID, ID, "x", "5", "5", None, None, None, None, None, None]
