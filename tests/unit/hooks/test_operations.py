from __future__ import annotations

from typing import Any

import pytest
from bson import ObjectId
from pydantic import BaseModel, Field

from hooks.context import HookContext, Params
from hooks.errors import BadRequest
from hooks.models import Id
from hooks.schema import Schema, validate_data
from hooks.tenant import Tenant
from services.application import Application

HEX = "65a1b2c3d4e5f60718293a4b"

SCHEMA = Schema(
    {
        "text": {"type": "string", "required": True, "maxLength": 5},
        "label": {"type": "string"},
        "n": {"type": "number"},
        "whole": {"type": "integer", "title": "A count"},
        "rank": {"type": "integer", "minimum": 0, "maximum": 10},
        "tags": {"type": "array", "items": {"type": "string"}},
        "few": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
        "at": {
            "type": "object",
            "properties": {"x": {"type": "number"}, "owner": {"type": "string", "objectid": True}},
        },
        "owner": {"type": "string", "objectid": True},
        "friends": {"type": "array", "items": {"type": "string", "objectid": True}},
    }
)
CLOSED = Schema({"n": {"type": "number"}, "additionalProperties": False})


class Person(BaseModel):
    name: str = Field(max_length=5)
    rank: int = Field(0, ge=0, le=10)
    tags: list[str] = []
    owner: Id | None = None
    friends: list[Id] = []


def patch(shape: Any, data: dict[str, Any]) -> HookContext:
    params = Params(tenant=Tenant("acme", "Acme"), provider="socketio")
    context = HookContext(app=Application(), service=None, path="people", method="patch", params=params, data=data)
    validate_data(shape)(context)
    return context


@pytest.mark.parametrize(
    "data",
    [
        {"$set": {"text": "hi"}}, {"n": 1, "$inc": {"whole": 2}}, {"$mul": {"n": 1.5}}, {"$min": {"rank": 3}},
        {"$max": {"rank": 10}}, {"$push": {"tags": "a"}}, {"$push": {"tags": {"$each": ["a"], "$slice": -2}}},
        {"$addToSet": {"tags": "a"}}, {"$pull": {"tags": "a"}}, {"$pull": {"tags": {"$in": ["a"]}}}, {"$unset": {"n": 1}},
        {"$inc": {"other": 1}, "$push": {"more": {"x": 1}}, "$set": {"deep.er": 1}, "$unset": {"deep.est": 1}},
        {"$set": 5},
    ],
)  # fmt: skip
def test_operands_that_tell_all(data: dict[str, Any]) -> None:
    context = patch(SCHEMA, data)
    assert context.data == data
    assert context.params.verify is None


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ({"$set": {"text": 5}}, "/$set/text"), ({"$set": {"text": "too long"}}, "/$set/text"),
        ({"text": 5, "$inc": {"n": 1}}, "/text"),
        ({"$inc": {"label": 1}}, "/$inc/label"), ({"$inc": {"whole": 0.5}}, "/$inc/whole"), ({"$inc": {"n": "1"}}, "/$inc/n"),
        ({"$mul": {"tags": 2}}, "/$mul/tags"), ({"$min": {"rank": -1}}, "/$min/rank"), ({"$max": {"rank": 11}}, "/$max/rank"),
        ({"$max": {"rank": "x"}}, "/$max/rank"), ({"$push": {"tags": 5}}, "/$push/tags/0"), ({"$push": {"n": 5}}, "/$push/n"),
        ({"$addToSet": {"tags": {"$each": ["a", 5]}}}, "/$addToSet/tags/1"), ({"$unset": {"text": 1}}, "/$unset/text"),
        ({"$set": {"owner": "nobody"}}, "/$set/owner"),
    ],
)  # fmt: skip
def test_operands_that_are_wrong(data: dict[str, Any], place: str) -> None:
    with pytest.raises(BadRequest, match="validation failed") as caught:
        patch(SCHEMA, data)
    assert [fault["path"] for fault in caught.value.data] == [place]


@pytest.mark.parametrize(
    ("data", "good", "bad"),
    [
        ({"$inc": {"rank": 5}}, {"rank": 10}, {"rank": 11}),
        ({"$mul": {"rank": -1}}, {"rank": 0}, {"rank": -1}),
        ({"$push": {"few": "c"}}, {"few": ["a", "c"]}, {"few": ["a", "b", "c"]}),
        ({"$pull": {"few": "c"}}, {"few": []}, {"few": [1]}),
        ({"$set": {"at.x": 5}}, {"at": {"x": 5}}, {"at": {"x": "5"}}),
        ({"$unset": {"at.x": 5}}, {"at": {}}, {"at": []}),
        ({"$inc": {"at.x": 1}}, {"at": {"x": 1}}, {"at": {"x": None}}),
    ],
)
def test_what_must_be_seen_as_a_result(data: dict[str, Any], good: dict[str, Any], bad: dict[str, Any]) -> None:
    verify = patch(SCHEMA, data).params.verify
    assert verify is not None
    # Other fields may be older than the schema.
    verify({"_id": ObjectId(), "text": 5, **good})
    with pytest.raises(BadRequest, match="validation failed"):
        verify({"_id": ObjectId(), **bad})


def test_ids_become_ids() -> None:
    id = ObjectId(HEX)
    rows: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"$set": {"owner": HEX}}, {"$set": {"owner": id}}),
        ({"$set": {"at.owner": HEX}}, {"$set": {"at.owner": id}}),
        ({"$set": {"at": {"owner": HEX}}}, {"$set": {"at": {"owner": id}}}),
        ({"$push": {"friends": HEX}}, {"$push": {"friends": id}}),
        ({"$addToSet": {"friends": {"$each": [HEX, HEX]}}}, {"$addToSet": {"friends": {"$each": [id, id]}}}),
        ({"$pull": {"friends": HEX}}, {"$pull": {"friends": id}}),
        ({"$pull": {"friends": {"$in": [HEX]}}}, {"$pull": {"friends": {"$in": [id]}}}),
    ]
    for data, kept in rows:
        assert patch(SCHEMA, data).data == kept
        if "at" not in str(data):
            assert patch(Person, data).data == kept


@pytest.mark.parametrize(
    "data", [{"$inc": {"x": 1}}, {"$set": {"x": 1}}, {"$push": {"x": 1}}, {"x": 1, "$inc": {"n": 1}}]
)
def test_a_closed_schema_takes_nothing_else(data: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match="validation failed"):
        patch(CLOSED, data)


def test_a_closed_schema_takes_no_path_into_something_else() -> None:
    verify = patch(CLOSED, {"$set": {"x.y": 1}}).params.verify
    assert verify is not None
    with pytest.raises(BadRequest, match="validation failed"):
        verify({"x": {"y": 1}})


def test_a_model_judges_the_result() -> None:
    assert patch(Person, {"$set": {"name": "Ada", "unknown": 1}, "rank": 3}).data == {
        "rank": 3,
        "$set": {"name": "Ada"},
    }
    for data in (
        {"$set": {"name": "much too long"}},
        {"$max": {"rank": 11}},
        {"$unset": {"name": 1}},
        {"$push": {"tags": 5}},
    ):
        with pytest.raises(BadRequest, match="validation failed"):
            patch(Person, data)
    verify = patch(Person, {"$inc": {"rank": 1}}).params.verify
    assert verify is not None
    verify({"rank": 10})
    with pytest.raises(BadRequest, match="validation failed"):
        verify({"rank": 11})
