"""Types for TypeScript: one for each schema, and text that stays text."""

from __future__ import annotations

from typing import Any

import pytest

from server.documents.typescript import to_type, typescript
from tests.unit.server.documents import service, tenant


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string", "minLength": 3}, "string"),
        ({"type": "integer"}, "number"),
        ({"type": ["number", "null"]}, "number | null"),
        ({"type": ["number", "integer"]}, "number"),
        ({"enum": ["a", 1, None, True]}, '"a" | 1 | null | true'),
        ({"const": "it's \"*/"}, '"it\'s \\"*/"'),
        ({"const": {"a": 1}}, "unknown"),
        ({}, "unknown"),
        ({"minimum": 3}, "unknown"),
        (True, "unknown"),
        (False, "never"),
        ({"type": "array", "items": {"type": "string"}}, "string[]"),
        ({"type": "array", "items": {"type": ["string", "null"]}}, "(string | null)[]"),
        ({"type": "array"}, "unknown[]"),
        ({"type": "array", "prefixItems": [{"type": "string"}], "items": False}, "unknown[]"),
        ({"anyOf": [{"type": "string"}, {"type": "number"}]}, "string | number"),
        ({"type": "object"}, "{ [field: string]: unknown }"),
        ({"type": "object", "additionalProperties": False}, "Record<string, never>"),
        (
            {
                "type": "object",
                "required": ["a"],
                "properties": {"a": {"type": "string"}, "b c": {"type": "boolean"}},
                "additionalProperties": False,
            },
            '{ a: string; "b c"?: boolean }',
        ),
    ],
)
def test_types(schema: Any, expected: str) -> None:
    assert to_type(schema) == expected


def test_only_what_is_offered_is_typed() -> None:
    text = typescript(tenant())
    assert "export interface ServiceTypes {" in text
    assert '  "api/horn-players": ' in text
    lists = text[text.index("export interface ListsService {") :]
    assert lists[: lists.index("}")].count("(") == 1
    assert "find(params?: Params<ListsQuery>): Promise<ListsRecord[]>" in lists
    assert "honk(data?: any, params?: Params): Promise<any>" in text


def test_without_multi_no_lists_and_no_null() -> None:
    assert "id: null" in typescript(tenant())
    single = service(methods=tuple(found for found in service().methods if not found.is_multi))
    assert "id: null" not in typescript(tenant(single))


def test_what_a_service_offers_besides_is_typed() -> None:
    text = typescript(tenant(service(has_cursors=True, is_searchable=True, updates=("$inc",))))
    assert "NotesQuery = Find<NotesRecord> & ByCursor & { $search?: string }" in text
    assert "$inc?: Changes<NotesRecord>" in text
    assert "$inc?" not in typescript(tenant(service()))
