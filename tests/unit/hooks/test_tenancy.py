"""T5, RE-1: a client cannot name the tenant field in any position, and the tenant is forced outside of its query."""

from __future__ import annotations

from typing import Any

import pytest

from hooks.context import HookContext, Params
from hooks.errors import BadRequest
from hooks.tenancy import asked, enforce_app_id, inject_app_id, mentions_app_id
from hooks.tenant import Tenant

ATTACKS: list[Any] = [
    {"app_id": "globex"},
    {"app_id": "acme"},
    {"app_id": {"$ne": "acme"}},
    {"app_id": None},
    {"app_id.x": 1},
    {"x.app_id": 1},
    {"$or": [{"app_id": "globex"}, {}]},
    {"$and": [{"$or": [{"app_id": "globex"}]}]},
    {"a": {"$in": [{"app_id": "globex"}]}},
    {"$set": {"app_id": "globex"}},
    {"$unset": {"app_id": ""}},
    {"$unset": ["app_id"]},
    {"$rename": {"name": "app_id"}},
    {"$rename": {"name": "app_id.x"}},
    {"$push": {"app_id": 1}},
    {"$sort": {"app_id": 1}},
    {"$select": ["text", "app_id"]},
    {"$select": "app_id"},
    {"nested": {"app_id": "globex"}},
    {"nested": [[{"app_id": "globex"}]]},
    [{"text": "a"}, {"app_id": "globex"}],
]
HARMLESS: list[Any] = [
    {},
    {"text": "app_id"},
    {"my_app_id": 1},
    {"app_ids": ["globex"]},
    {"$select": ["app_identity"]},
    ["app_id"],
    "app_id",
    None,
    5,
]


def a_context(query: Any = None, data: Any = None, provider: str | None = "socketio") -> HookContext:
    params = Params(tenant=Tenant("acme", "Acme"), query={} if query is None else query, provider=provider)
    return HookContext(app=None, service=None, path="s", method="create", params=params, data=data)  # type: ignore[arg-type]


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_naming_the_tenant_field_is_refused_in_data_and_query(attack: Any) -> None:
    assert mentions_app_id(attack)
    with pytest.raises(BadRequest, match="app_id"):
        inject_app_id(a_context(data=attack))
    if isinstance(attack, dict):
        with pytest.raises(BadRequest, match="app_id"):
            enforce_app_id(a_context(attack))


@pytest.mark.parametrize("value", HARMLESS, ids=repr)
def test_other_values_pass(value: Any) -> None:
    assert not mentions_app_id(value)


def test_the_tenant_is_forced_outside_of_the_query() -> None:
    context = a_context({"text": "a", "$or": [{"n": 1}], "$limit": 5, "$sort": {"n": 1}})
    enforce_app_id(context)
    assert context.params.query == {
        "$and": [{"app_id": "acme"}, {"text": "a", "$or": [{"n": 1}]}],
        "$limit": 5,
        "$sort": {"n": 1},
    }


def test_an_empty_query_is_forced_too() -> None:
    context = a_context()
    enforce_app_id(context)
    assert context.params.query == {"$and": [{"app_id": "acme"}]}


def test_internal_calls_are_forced_as_well() -> None:
    context = a_context({"app_id": "globex"}, provider=None)
    enforce_app_id(context)
    assert context.params.query == {"$and": [{"app_id": "acme"}, {"app_id": "globex"}]}


def test_data_is_stamped_without_touching_the_callers_own() -> None:
    data = [{"text": "a"}, {"text": "b"}]
    context = a_context(data=data)
    inject_app_id(context)
    assert context.data == [{"text": "a", "app_id": "acme"}, {"text": "b", "app_id": "acme"}]
    assert data == [{"text": "a"}, {"text": "b"}]


def test_data_that_is_no_record_is_left_for_the_service_to_refuse() -> None:
    for data in (None, 5, "x", [1]):
        context = a_context(data=data)
        inject_app_id(context)
        assert context.data == data


@pytest.mark.parametrize(
    "query",
    [{}, {"$limit": 3}, {"state": "done", "$limit": 3}, {"$and": [{"a": 1}, {"a": 2}]}, {"a": 1, "$and": [{"a": 2}]}],
)
def test_what_was_asked_comes_out_of_what_was_forced_around_it(query: dict[str, Any]) -> None:
    context = a_context(query)
    enforce_app_id(context)
    assert asked(context.params.query) == query
    scope = {"owner": "ada"}
    context.params.query["$and"].append(scope)
    found = asked(context.params.query)
    assert scope.items() <= found.items() or scope in found["$and"], "no rule gets lost"
