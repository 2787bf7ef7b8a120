"""The language of rules: what a rule means for one caller, and what is no rule."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from bson import ObjectId

from hooks.rules import (
    MAX_PARTS,
    check_rule,
    fields_of,
    needs_login,
    permissions_of,
    rule_for,
    scope_of,
    user_fields_of,
    user_value,
)

ID = ObjectId("65a000000000000000000001")
ADA: dict[str, Any] = {
    "_id": ID,
    "team": {"id": 7},
    "rooms": ["a", None, {"$ne": 1}, "b"],
    "settings": {"$ne": None},
    "none": None,
    "permissions": ["write"],
}
FIELDS = {"$and": [{"permission": "x"}, {"any": 1}]}
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("rule", "stranger", "ada"),
    [
        ("public", True, True),
        ("authenticated", False, True),
        ("nobody", False, False),
        ({"permission": "write"}, False, True),
        ({"permission": "sign"}, False, False),
        ({"owner": "$user._id"}, False, {"owner": str(ID)}),
        ({"team": "$user.team.id"}, False, {"team": 7}),
        ({"team": "$user.team.name"}, False, False),
        ({"open": True}, {"open": True}, {"open": True}),
        ({"a": 1, "b": {"$gt": 2, "$ne": 5}}, {"a": 1, "b": {"$gt": 2, "$ne": 5}}, {"a": 1, "b": {"$gt": 2, "$ne": 5}}),
        # What a user does not have, and what a database could take for operators or for a missing field, equals nothing.
        ({"x": "$user.none"}, False, False),
        ({"x": "$user.settings"}, False, False),
        ({"x": {"$in": "$user.rooms"}}, False, {"x": {"$in": ["a", "b"]}}),
        ({"x": {"$in": ["$user.none", "c"]}}, {"x": {"$in": ["c"]}}, {"x": {"$in": ["c"]}}),
        ({"x": {"$in": ["$user._id", "$user.rooms"]}}, False, {"x": {"$in": [str(ID), "a", "b"]}}),
        ({"x": {"$nin": "$user.none"}}, False, False),
        ({"x": {"$nin": ["$user._id"]}}, False, {"x": {"$nin": [str(ID)]}}),
        ({"x": {"$ne": "$user._id"}}, False, {"x": {"$ne": str(ID)}}),
        ({"x": ["$user._id", "y"]}, False, {"x": [str(ID), "y"]}),
        ({"at": {"$lte": "$now"}}, {"at": {"$lte": NOW}}, {"at": {"$lte": NOW}}),
        ({"$or": [{"open": True}, {"owner": "$user._id"}]}, {"open": True}, {"$or": [{"open": True}, {"owner": str(ID)}]}),
        ({"$and": [{"open": True}, {"owner": "$user._id"}]}, False, {"$and": [{"open": True}, {"owner": str(ID)}]}),
        ({"$or": [{"a": "$user._id"}, {"b": "$user.team.id"}]}, False, {"$or": [{"a": str(ID)}, {"b": 7}]}),
        ({"any": ["nobody", "public"]}, True, True),
        ({"any": [{"open": True}, {"permission": "write"}]}, {"open": True}, True),
        ({"any": [{"permission": "sign"}, {"owner": "$user._id"}]}, False, {"owner": str(ID)}),
        ({"all": ["authenticated", {"open": True}]}, False, {"open": True}),
        ({"all": [{"a": 1}, {"b": 2}]}, {"$and": [{"a": 1}, {"b": 2}]}, {"$and": [{"a": 1}, {"b": 2}]}),
        ({"all": ["authenticated", {"permission": "write"}]}, False, True),
        ({"all": ["public", {"permission": "sign"}]}, False, False),
        # In a query these are fields.
        (FIELDS, FIELDS, FIELDS),
    ],
)  # fmt: skip
def test_what_a_rule_means(rule: Any, stranger: Any, ada: Any) -> None:
    check_rule(rule)
    assert scope_of(rule, None, NOW) == stranger
    assert scope_of(rule, ADA, NOW) == ada
    assert needs_login(rule) is (stranger is False)


def test_scopes_never_share_the_rules_own_values() -> None:
    rule = {"x": {"$in": ["a"]}}
    scope = scope_of(rule, ADA)
    assert isinstance(scope, dict)
    scope["x"]["$in"].append("b")
    assert rule == {"x": {"$in": ["a"]}}


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ("everybody", "is one of public, authenticated, nobody"),
        (None, "is one of public"),
        ({}, "is one of public"),
        ({"permission": ""}, "the name of a permission"),
        ({"permission": "a", "x": 1}, "stands alone"),
        ({"any": []}, "any: is a list of rules"),
        ({"all": "public"}, "all: is a list of rules"),
        ({"any": ["public"], "x": 1}, "stands alone"),
        ({"any": ["everybody"]}, "not 'everybody'"),
        ({"$or": []}, r"\$or: is a list of conditions"),
        ({"$or": ["public"]}, "an object of fields"),
        ({"$nor": [{"a": 1}]}, "only \\$or and \\$and"),
        ({"$where": "1"}, "is not a field"),
        ({"a.$b": 1}, "is not a field"),
        ({"a..b": 1}, "is not a field"),
        ({"": 1}, "is not a field"),
        ({5: 1}, "is not a field"),
        ({"app_id": "acme"}, "nothing that a rule can ask for"),
        ({"_id.a": "acme"}, "nothing that a rule can ask for"),
        ({"a": {}}, "is none of"),
        ({"a": {"$regex": "x"}}, "'\\$regex' is none of"),
        ({"a": {"b": 1}}, "'b' is none of"),
        ({"a": {"$in": "x"}}, "needs a list"),
        ({"a": {"$gt": [1]}}, "needs a single value"),
        ({"a": {"$ne": {"b": 1}}}, "is compared with texts"),
        ({"a": "$users._id"}, "is neither"),
        ({"a": "$user."}, "is neither"),
        ({"a": "$user..b"}, "is neither"),
        ({"a": "$now"}, "\\$now is compared by"),
        ({"a": {"$in": ["$now"]}}, "\\$now is compared by"),
        ({"a": [object()]}, "is compared with texts"),
        ({"a": {"$in": list(range(101))}}, "at most 100 values"),
        ({"any": [{f"f{n}": 1} for n in range(MAX_PARTS)]}, "too large"),
        ({"$or": [{f"f{n}": 1 for n in range(MAX_PARTS + 1)}]}, "too large"),
    ],
)
def test_what_is_no_rule(rule: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_rule(rule)


def test_the_rule_of_a_method() -> None:
    assert rule_for({}, "find") == "nobody"
    assert rule_for({"default": "public", "remove": "nobody"}, "find") == "public"
    assert rule_for({"default": "public", "remove": "nobody"}, "remove") == "nobody"


def test_what_a_rule_looks_at() -> None:
    rule = {"any": [{"a.b": 1, "$or": [{"c": "$user.x.y"}]}, {"permission": "p"}, {"all": [{"d": {"$in": "$user.z"}}]}]}
    assert fields_of(rule) == {"a", "c", "d"}
    assert user_fields_of(rule) == {"x", "permissions", "z"}
    assert fields_of("public") == user_fields_of("public") == frozenset()


def test_a_users_values() -> None:
    assert user_value(ADA, "_id") == str(ID)
    assert user_value({"boss": ID, "bosses": [ID, "x"]}, "boss") == str(ID)
    assert user_value({"bosses": [ID, "x"]}, "bosses") == [str(ID), "x"]
    assert user_value(ADA, "team") is None
    assert user_value(ADA, "team.id.deeper") is None
    assert user_value(None, "_id") is None


@pytest.mark.parametrize("held", [None, "write", {"write": True}, 5])
def test_permissions_that_are_no_list_are_none(held: Any) -> None:
    assert "write" not in permissions_of({"permissions": held})
    assert scope_of({"permission": "write"}, {"permissions": held}) is False
