"""Declared schemas: whole records and parts of them, and faults by their path."""

from __future__ import annotations

from typing import Any

import pytest

from hooks.context import HookContext, Params
from hooks.errors import BadRequest
from hooks.schema import Schema, validate_data
from hooks.tenant import Tenant

MESSAGES = Schema(
    {
        "text": {"type": "string", "required": True, "maxLength": 10},
        "n": {"type": "number"},
        "mail": {"type": "string", "format": "email"},
        "author": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
        "tags": {"type": "array", "items": {"type": "string"}},
    }
)
STRICT = Schema({"text": {"type": "string"}, "additionalProperties": False})

ROWS: list[tuple[Schema, Any, bool, list[str]]] = [
    (MESSAGES, {"text": "x"}, True, []),
    (MESSAGES, {"text": "x", "other": 1}, True, []),
    (MESSAGES, {}, True, ["/"]),
    (MESSAGES, {}, False, []),
    (MESSAGES, {"text": 5}, True, ["/text"]),
    (MESSAGES, {"text": 5}, False, ["/text"]),
    (MESSAGES, {"text": None}, False, ["/text"]),
    (MESSAGES, {"text": "x" * 11}, True, ["/text"]),
    (MESSAGES, {"text": "x", "n": "1"}, True, ["/n"]),
    (MESSAGES, {"text": "x", "n": True}, True, ["/n"]),
    (MESSAGES, {"text": "x", "mail": "none"}, True, ["/mail"]),
    (MESSAGES, {"text": "x", "author": {}}, True, ["/author"]),
    (MESSAGES, {"text": "x", "author": {"name": 5}}, True, ["/author/name"]),
    (MESSAGES, {"text": "x", "tags": ["a", 5]}, True, ["/tags/1"]),
    (MESSAGES, {"n": "x", "tags": 5}, True, ["/", "/n", "/tags"]),
    (STRICT, {"text": "x", "_id": "7", "app_id": "acme"}, True, []),
    (STRICT, {"other": 1}, True, ["/"]),
    (STRICT, {"other": 1}, False, ["/"]),
]


@pytest.mark.parametrize(("schema", "record", "whole", "paths"), ROWS)
def test_faults_are_found_at_their_places(schema: Schema, record: Any, whole: bool, paths: list[str]) -> None:
    faults = schema.check(record, whole=whole)
    assert sorted(fault["path"] for fault in faults) == paths
    assert all(fault["message"] for fault in faults)


@pytest.mark.parametrize(
    "declared",
    [
        {"text": "string"},
        {"text": {"type": "word"}},
        {"text": {"type": "string", "maxLength": "x"}},
        {"additionalProperties": {"type": "string"}},
        {"text": {"pattern": "("}},
    ],
)
def test_what_is_no_schema_is_refused(declared: Any) -> None:
    with pytest.raises(ValueError, match=r"text|additionalProperties"):
        Schema(declared)


def validated(method: str, data: Any) -> Any:
    params = Params(tenant=Tenant("acme", "Acme"), provider="rest")
    context = HookContext(app=None, service=None, path="s", method=method, params=params, data=data)  # type: ignore[arg-type]
    validate_data(MESSAGES)(context)
    return context.data


def test_create_and_update_need_all_and_patch_does_not() -> None:
    validated("patch", {"n": 1})
    for method in ("create", "update"):
        validated(method, {"text": "x"})
        with pytest.raises(BadRequest, match="validation failed"):
            validated(method, {"n": 1})


def test_lists_are_validated_item_by_item() -> None:
    validated("create", [{"text": "x"}, {"text": "y"}])
    with pytest.raises(BadRequest) as raised:
        validated("create", [{"text": "x"}, {"text": 5}, {"text": "x", "n": "y"}])
    assert sorted(fault["path"] for fault in raised.value.data) == ["/1/text", "/2/n"]
    assert raised.value.data == raised.value.errors


@pytest.mark.parametrize("data", [None, 5, "text", [5], [None]])
def test_what_is_no_record_is_refused(data: Any) -> None:
    for method in ("create", "update", "patch"):
        with pytest.raises(BadRequest, match="validation failed"):
            validated(method, data)
