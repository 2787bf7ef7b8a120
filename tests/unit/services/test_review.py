"""The review of rules: what is open, impossible, slow or unused is said, and nothing of what is as usual."""

from __future__ import annotations

from typing import Any

import pytest

from services.declaration import ServiceDeclaration
from services.review import review


def remarks(**services: dict[str, Any]) -> list[str]:
    return [str(one) for one in review({path: ServiceDeclaration(**service) for path, service in services.items()})]


TEXT = {"type": "string"}


@pytest.mark.parametrize(
    "service",
    [
        {"rules": {"default": "authenticated", "find": "public", "get": "public"}},
        {"rules": {"default": "nobody"}},
        {"rules": {"default": {"owner": "$user._id"}}, "indexes": (("owner", "-at"),)},
        {"rules": {"default": {"owner": "$user._id"}}, "unique": (("owner",),)},
        {"rules": {"default": {"_id": "$user._id"}}},
        {"rules": {"get": {"owner": "$user._id"}}},
        {"rules": {"find": {"$or": [{"open": True}, {"owner": "$user._id"}]}}, "indexes": (("open",), ("owner",))},
        {"rules": {"find": {"deleted": {"$ne": True}}}},
        {"rules": {"patch": {"owner": "$user._id"}}},
        {"rules": {"create": {"owner": "$user._id"}}, "readonly": ("owner",), "stamp": {"owner": "$user._id"}},
        # A list can hold both.
        {"rules": {"get": {"$and": [{"tags": "a"}, {"tags": "b"}]}}},
        {"rules": {"get": {"kind": {"$gt": 1, "$lt": 3}}}, "schema": {"kind": {"type": "number"}}},
    ],
)
def test_what_is_as_usual_is_not_worth_a_word(service: dict[str, Any]) -> None:
    assert remarks(notes=service) == []


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("public", "open: anyone may {what}, logged in or not"),
        ({"any": ["public", {"permission": "x"}]}, "open: anyone may {what}, logged in or not"),
        ({"$or": [{"draft": True}, {"owner": "$user._id"}]}, "open: strangers may {what} where {{draft: true}}"),
    ],
)
@pytest.mark.parametrize(
    ("method", "what"),
    [("create", "create records"), ("update", "replace"), ("patch", "change"), ("remove", "remove")],
)
def test_what_is_open_for_writing_is_named(rule: Any, text: str, method: str, what: str) -> None:
    assert remarks(notes={"rules": {method: rule}}) == [f"notes.{method}: {text.format(what=what)}"]


@pytest.mark.parametrize(
    "rule",
    [
        {"all": ["nobody", "public"]},
        {"any": ["nobody", {"all": [{"a": 1}, "nobody"]}]},
        {"all": [{"a": 1}, {"a": 2}]},
        {"$and": [{"a": {"$in": [1, 2]}}, {"a": {"$in": [3]}}]},
        {"a": {"$in": []}},
        {"a": {"$gt": 5, "$lt": 3}},
        {"a": {"$gt": 5, "$lte": 5}},
        {"a": {"$gt": 5, "$lt": "x"}},
        {"$and": [{"a": 1}, {"a": {"$ne": 1}}]},
        {"$and": [{"a": 1}, {"a": {"$nin": [1, 2]}}]},
        {"$and": [{"a": 1}, {"a": {"$gt": 1}}]},
        {"$or": [{"$and": [{"a": 1}, {"a": "1"}]}, {"$and": [{"a": 1}, {"a": True}]}]},
    ],
)
def test_contradictions_are_found(rule: Any) -> None:
    service: dict[str, Any] = {"rules": {"get": rule}, "schema": {"a": {"type": ["number", "string", "boolean"]}}}
    assert remarks(notes=service) == ["notes.get: nobody can ever pass this rule: its conditions exclude each other"]


@pytest.mark.parametrize(
    "rule",
    [
        {"$and": [{"a": "$user.x"}, {"a": 1}]},
        {"$and": [{"a": "$user.x"}, {"a": {"$ne": "$user.y"}}]},
        {"$and": [{"a": {"$gte": 5}}, {"a": {"$lte": 5}}]},
        {"$or": [{"$and": [{"a": 1}, {"a": 2}]}, {"a": 3}]},
        {"$and": [{"a": None}, {"a": {"$ne": 1}}]},
    ],
)
def test_what_may_be_met_is_no_contradiction(rule: Any) -> None:
    service = {"rules": {"get": rule}, "schema": {"a": {"type": "number"}}}
    assert not any("exclude" in remark for remark in remarks(notes=service))


def test_a_field_that_nobody_can_write_is_named() -> None:
    service = {"rules": {"create": {"owner": "$user._id"}}, "readonly": ("owner",)}
    assert remarks(notes=service) == [
        "notes.create: nobody can ever pass this rule: 'owner' is readonly and has no stamp"
    ]


def test_a_condition_without_an_index_is_named_with_the_index_that_it_needs() -> None:
    rule = {"$or": [{"open": True}, {"owner": "$user._id", "at": {"$gt": 1}}]}
    expected = "no index serves its condition: every call reads all records. Declare indexes: "
    assert remarks(notes={"rules": {"find": rule}}) == [f"notes.find: {expected}[open, owner]"]
    assert remarks(notes={"rules": {"find": rule}, "indexes": (("-at", "open"), ("open",))}) == []
    other = {"collection": "notes", "indexes": (("open",), ("owner",)), "rules": {"find": "public"}}
    assert remarks(notes={"rules": {"find": rule}}, others=other) == []
    many = {"rules": {"default": {"owner": "$user._id"}}, "multi": ("patch",)}
    assert [line.split(":")[0] for line in remarks(notes=many)] == ["notes.find", "notes.patch"]


def test_services_without_rules_and_fields_that_only_the_server_writes_are_named() -> None:
    service = {"rules": {"find": {"team": {"$in": "$user.teams"}}}, "indexes": (("team",),)}
    assert remarks(notes={}, others=service, more=service) == [
        "notes: nobody can call it: it has no rules",
        "others: its rules ask for '$user.teams', which only the server writes: python -m server users set",
    ]


def test_a_rule_of_too_many_ways_is_not_judged() -> None:
    pairs = [{"$or": [{f"a{n}": 1}, {f"b{n}": 1}]} for n in range(10)]
    assert remarks(notes={"rules": {"find": {"$and": pairs}}}) == []
