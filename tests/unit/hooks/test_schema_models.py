"""Schemas and pydantic models: validation of data and queries, coercion, and fields that hold ids."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest
from bson import ObjectId
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from hooks.context import HookContext, Params
from hooks.errors import BadRequest
from hooks.models import Id, Model
from hooks.schema import MAX_MESSAGE, Schema, convert_ids, validate_data, validate_query
from hooks.shape import MAX_FAULTS
from hooks.tenancy import enforce_app_id
from hooks.tenant import Tenant

HEX = "65a000000000000000000001"
ID = ObjectId(HEX)
TENANT = Tenant("acme", "Acme")

SCHEMA = Schema(
    {
        "text": {"type": "string", "required": True, "maxLength": 5},
        "n": {"type": "number"},
        "count": {"type": "integer"},
        "done": {"type": "boolean"},
        "maybe": {"type": ["number", "null"]},
        "either": {"type": ["number", "string"]},
        "scores": {"type": "array", "items": {"type": "number"}},
        "free": {},
        "at": {"type": "string", "format": "date-time"},
        "owner": {"type": "string", "objectid": True},
        "readers": {"type": "array", "items": {"objectid": True}},
        "place": {"type": "object", "properties": {"floor": {"type": "integer"}, "house": {"objectid": True}}},
        "lines": {"type": "array", "items": {"type": "object", "properties": {"article": {"objectid": True}}}},
    }
)


class Colour(Enum):
    RED = "red"


class Place(BaseModel):
    city: str
    floor: int = 0


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    text: str = Field(min_length=2)
    n: int = Field(5, gt=0)
    at: datetime | None = None
    tags: list[int] = []
    place: Place | None = None
    owner: Id | None = None
    price: Decimal = Decimal("1.5")
    colour: Colour = Colour.RED
    kind: str = Field("note", alias="type")

    @field_validator("text")
    @classmethod
    def _trim(cls, text: str) -> str:
        return text.strip()


def context_of(method: str = "create", data: Any = None, query: Any = None) -> HookContext:
    params = Params(tenant=TENANT, query=query or {}, provider="rest")
    return HookContext(app=None, service=None, path="x", method=method, params=params, data=data)  # type: ignore[arg-type]


def validated(shape: Any, data: Any, method: str = "create") -> Any:
    context = context_of(method, data)
    validate_data(shape)(context)
    return context.data


def queried(shape: Any, query: Any) -> Any:
    context = context_of("find", query=query)
    validate_query(shape)(context)
    return context.params.query


def faults(run: Any, *arguments: Any) -> Any:
    with pytest.raises(BadRequest, match="validation failed") as caught:
        run(*arguments)
    wire = caught.value.to_json()
    assert wire["data"] == wire["errors"]
    assert all(set(fault) == {"path", "message"} for fault in wire["data"])
    return [fault["path"] for fault in wire["data"]]


# Data by a declared schema.


def test_faults_are_named_by_path_and_in_lists_by_index() -> None:
    assert faults(validated, SCHEMA, {"text": 1, "n": "x"}) == ["/text", "/n"]
    assert faults(validated, SCHEMA, [{"text": "a"}, {"text": 1}, {}]) == ["/1/text", "/2"]
    assert faults(validated, SCHEMA, {"text": "a", "place": {"floor": "1"}}) == ["/place/floor"]
    assert faults(validated, SCHEMA, [{"text": "a"}, 5]) == ["/1"]


@pytest.mark.parametrize("data", [None, 5, "text", True])
def test_data_that_is_no_record_does_not_pass(data: Any) -> None:
    for shape in (SCHEMA, Message):
        assert faults(validated, shape, data) == ["/"]


def test_a_patch_is_checked_in_the_fields_that_it_has() -> None:
    assert validated(SCHEMA, {"n": 1}, "patch") == {"n": 1}
    assert faults(validated, SCHEMA, {"n": "1"}, "patch") == ["/n"]
    assert faults(validated, SCHEMA, {"n": 1}, "update") == ["/"]


def test_each_method_can_have_its_own_and_methods_without_data_pass() -> None:
    by_method = {"create": SCHEMA, "patch": Message, "mark": Place}
    assert faults(validated, by_method, {}) == ["/"]
    assert validated(by_method, {"n": "7"}, "patch") == {"n": 7}
    assert faults(validated, by_method, {}, "mark") == ["/city"]
    assert validated(by_method, {"anything": 1}, "update") == {"anything": 1}
    for method in ("find", "get", "remove"):
        assert validated(SCHEMA, None, method) is None


def test_an_answer_names_a_bounded_number_of_bounded_faults() -> None:
    with pytest.raises(BadRequest) as caught:
        validated(SCHEMA, [{"text": "x" * 10_000}] * 1000)
    assert len(caught.value.data) == MAX_FAULTS
    assert all(len(fault["message"]) <= MAX_MESSAGE for fault in caught.value.data)
    shape = Schema({"a": {"type": "array", "items": {"type": "number"}}})
    assert len(shape.check({"a": ["x"] * 1000}, whole=True)) == MAX_FAULTS


def test_the_servers_own_fields_and_values_are_no_faults() -> None:
    closed = Schema({"additionalProperties": False, "at": {"type": "string"}, "owner": {"objectid": True}})
    now = datetime.now(UTC)
    sent = {"_id": ObjectId(), "app_id": "acme", "at": now, "owner": ID}
    assert validated(closed, sent) == sent
    assert faults(validated, closed, {"owner": 5, "at": now}) == ["/owner"]


# Fields that hold ids.


def test_ids_are_converted_in_data_at_any_depth() -> None:
    sent = {
        "text": HEX[:5],
        "owner": HEX,
        "readers": [HEX, HEX.upper()],
        "place": {"house": HEX, "floor": 1},
        "lines": [{"article": HEX, "other": HEX}],
        "free": HEX,
    }
    kept = validated(SCHEMA, sent)
    assert kept == {
        "text": HEX[:5],
        "owner": ID,
        "readers": [ID, ID],
        "place": {"house": ID, "floor": 1},
        "lines": [{"article": ID, "other": HEX}],
        "free": HEX,
    }
    assert sent["owner"] == HEX
    assert validated(SCHEMA, {"owner": HEX}, "patch") == {"owner": ID}
    assert validated(SCHEMA, [{"text": "a", "owner": HEX}]) == [{"text": "a", "owner": ID}]


@pytest.mark.parametrize("value", ["nonsense", HEX[:-1], HEX + "0", 5, {"$ne": None}, None])
def test_what_is_no_id_is_refused(value: Any) -> None:
    assert faults(validated, SCHEMA, {"text": "a", "owner": value}) == ["/owner"]


def test_an_id_may_be_null_where_that_is_declared() -> None:
    schema = Schema({"owner": {"type": ["string", "null"], "objectid": True}})
    assert validated(schema, {"owner": None}) == {"owner": None}
    assert validated(schema, {"owner": HEX}) == {"owner": ID}
    assert faults(validated, schema, {"owner": "x"}) == ["/owner"]


@pytest.mark.parametrize("entry", [{"type": "number", "objectid": True}, {"type": "array", "objectid": True}])
def test_only_texts_can_be_declared_as_ids(entry: Any) -> None:
    for declared in (entry, {"type": "array", "items": entry}, {"properties": {"below": entry}}):
        with pytest.raises(ValueError, match="objectid"):
            Schema({"owner": declared})


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"owner": HEX}, {"owner": ID}),
        ({"owner": {"$ne": HEX}}, {"owner": {"$ne": ID}}),
        ({"owner": {"$in": [HEX, "x"]}}, {"owner": {"$in": [ID, "x"]}}),
        ({"readers": HEX}, {"readers": ID}),
        ({"readers": [HEX]}, {"readers": [ID]}),
        ({"readers.0": HEX}, {"readers.0": ID}),
        ({"place.house": HEX}, {"place.house": ID}),
        ({"place": {"house": HEX}}, {"place": {"house": ID}}),
        ({"lines.article": HEX}, {"lines.article": ID}),
        ({"lines.3.article": HEX}, {"lines.3.article": ID}),
        (
            {"$or": [{"owner": HEX}, {"$and": [{"readers": HEX}]}]},
            {"$or": [{"owner": ID}, {"$and": [{"readers": ID}]}]},
        ),
        ({"free": HEX, "text": HEX, "unknown": HEX}, {"free": HEX, "text": HEX, "unknown": HEX}),
        ({"owner": {"$exists": HEX}, "$select": [HEX]}, {"owner": {"$exists": HEX}, "$select": [HEX]}),
        ({"owner": None}, {"owner": None}),
        ({"$or": "x"}, {"$or": "x"}),
    ],
)
def test_ids_are_converted_in_queries_at_any_depth(query: Any, expected: Any) -> None:
    context = context_of("find", query=query)
    convert_ids(SCHEMA)(context)
    assert context.params.query == expected
    assert repr(context.params.query) == repr(expected)


# Queries by a declared schema.


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"n": "25"}, {"n": 25}),
        ({"n": "2.5"}, {"n": 2.5}),
        ({"n": "1e2"}, {"n": 100}),
        ({"n": {"$gt": "1", "$in": ["2", 3]}}, {"n": {"$gt": 1, "$in": [2, 3]}}),
        ({"count": {"$lt": "1.5"}}, {"count": {"$lt": 1.5}}),
        ({"done": "true", "maybe": ""}, {"done": True, "maybe": None}),
        ({"n": ""}, {"n": None}),
        ({"either": "5", "text": "5"}, {"either": "5", "text": "5"}),
        ({"scores": "5"}, {"scores": 5}),
        ({"scores": ["5", "6"]}, {"scores": [5, 6]}),
        ({"place.floor": "5"}, {"place.floor": 5}),
        ({"owner": HEX}, {"owner": ID}),
        ({"owner": ID, "n": None, "at": datetime(2026, 1, 1, tzinfo=UTC)},) * 2,
        ({"$or": [{"n": "1"}, {"$and": [{"done": "false"}]}]}, {"$or": [{"n": 1}, {"$and": [{"done": False}]}]}),
        ({"unknown": "5", "$limit": "5", "$sort": {"n": "1"}},) * 2,
    ],
)
def test_query_values_get_the_type_of_their_field(query: Any, expected: Any) -> None:
    before = repr(query)
    assert repr(queried(SCHEMA, query)) == repr(expected)
    assert repr(query) == before


@pytest.mark.parametrize(
    ("query", "paths"),
    [
        ({"n": "x"}, ["/n"]),
        ({"n": True}, ["/n"]),
        ({"done": 1}, ["/done"]),
        ({"done": "yes"}, ["/done"]),
        ({"text": 5}, ["/text"]),
        ({"n": "1e999"}, ["/n"]),
        ({"count": {"$in": ["1", "x"]}}, ["/count/$in/1"]),
        ({"$or": [{"n": "1"}, {"n": {"$gt": "x"}}]}, ["/$or/1/n/$gt"]),
        ({"scores": ["1", "x"]}, ["/scores/1"]),
    ],
)
def test_query_values_of_another_type_are_refused(query: Any, paths: list[str]) -> None:
    assert faults(queried, SCHEMA, query) == paths


def test_faults_stand_where_the_client_wrote_them() -> None:
    for shape in (SCHEMA, Message):
        context = context_of("find", query={"n": "x", "$and": [{"n": "y"}]})
        enforce_app_id(context)
        assert faults(validate_query(shape), context) == ["/n", "/$and/0/n"]


@given(st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_read_from_its_text_or_refused_and_fits_the_database(number: float) -> None:
    try:
        read = queried(SCHEMA, {"n": repr(number)})["n"]
    except BadRequest:
        assert len(repr(number)) > 30
    else:
        assert read == number if -(2**63) <= number < 2**63 else read == float(number)
        assert not isinstance(read, int) or -(2**63) <= read < 2**63


# pydantic models.


def test_a_model_replaces_data_by_plain_values_and_adds_its_defaults() -> None:
    sent = {"text": " ab ", "at": "2026-01-01T00:00:00Z", "owner": HEX, "_id": "own", "app_id": "acme", "type": "x"}
    kept = validated(Message, sent)
    assert kept == {
        "text": "ab",
        "n": 5,
        "at": datetime(2026, 1, 1, tzinfo=UTC),
        "tags": [],
        "place": None,
        "owner": ID,
        "price": "1.5",
        "colour": "red",
        "type": "x",
        "_id": "own",
        "app_id": "acme",
    }
    assert type(kept["colour"]) is str
    assert validated(Message, [{"text": "ab"}, {"text": "cd", "n": "6"}])[1]["n"] == 6


def test_a_patch_by_a_model_has_the_fields_that_were_sent() -> None:
    assert validated(Message, {"n": "7"}, "patch") == {"n": 7}
    assert validated(Message, {"type": "x", "app_id": "acme"}, "patch") == {"type": "x", "app_id": "acme"}
    assert validated(Message, {"place": {"city": "Ulm"}}, "patch") == {"place": {"city": "Ulm", "floor": 0}}
    assert validated(Message, {"text": " abc "}, "patch") == {"text": "abc"}
    assert validated(Message, {"at": None}, "patch") == {"at": None}
    assert faults(validated, Message, {"text": None}, "patch") == ["/text"]
    assert faults(validated, Message, {"n": 0, "zz": 1}, "patch") == ["/n", "/zz"]
    assert faults(validated, Message, {"n": 7}, "update") == ["/text"]


def test_faults_of_a_model_are_named_by_path() -> None:
    assert faults(validated, Message, {"text": "ab", "place": {}, "tags": [1, "x"], "owner": "x"}) == [
        "/tags/1",
        "/place/city",
        "/owner",
    ]
    assert faults(validated, Message, [{"text": "ab"}, {}]) == ["/1/text"]


def test_a_check_over_several_fields_holds_for_whole_records() -> None:
    class Span(BaseModel):
        first: int
        last: int

        @model_validator(mode="after")
        def _check(self) -> Span:
            if self.first > self.last:
                raise ValueError("first is behind last")
            return self

    assert faults(validated, Span, {"first": 2, "last": 1}) == ["/"]
    assert validated(Span, {"first": 1, "last": 2}) == {"first": 1, "last": 2}


def test_queries_get_the_types_of_a_model() -> None:
    query = {
        "n": {"$gt": "3", "$in": ["1", "0"]},
        "at": {"$lt": "2026-01-01T00:00:00Z"},
        "tags": "4",
        "tags.0": "5",
        "place.floor": "3",
        "owner": HEX,
        "colour": "red",
        "price": "",
        "text": "a",
        "type": "x",
        "kind": "5",
        "zzz": "1",
        "place": {"city": "Ulm"},
        "$limit": "5",
    }
    assert queried(Message, query) == {
        "n": {"$gt": 3, "$in": [1, 0]},
        "at": {"$lt": datetime(2026, 1, 1, tzinfo=UTC)},
        "tags": 4,
        "tags.0": 5,
        "place.floor": 3,
        "owner": ID,
        "colour": "red",
        "price": None,
        "text": "a",
        "type": "x",
        "kind": "5",
        "zzz": "1",
        "place": {"city": "Ulm"},
        "$limit": "5",
    }
    assert faults(queried, Message, {"n": {"$in": ["1", "x"]}, "colour": "blue", "owner": "x"}) == [
        "/n/$in/1",
        "/colour",
        "/owner",
    ]


def test_paths_that_clients_make_up_are_not_kept() -> None:
    model = Model(Message)
    for index in range(1000):
        model.read_query({f"tags.{index}": "1", f"made.up.{index}": 1, f"place.{index}": 1})
    assert len(model._adapters) == 1


@pytest.mark.parametrize("shape", [dict, {"create": 5}, None, "text"])
def test_what_is_no_shape_is_refused_at_registration(shape: Any) -> None:
    with pytest.raises(TypeError):
        validate_data(shape)
