"""Audiences: those found by index and channel are those whom the rule admits when each is asked."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from bson import ObjectId
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hooks.conditions import Conditions
from hooks.context import Record
from hooks.fields import read_fields
from hooks.rules import check_rule
from hooks.tenant import Tenant
from services.audience import Audience, may_read
from services.channels import AUTHENTICATED, EVERYONE, Channels
from services.readers import Readers

ACME, GLOBEX = Tenant("acme", "Acme"), Tenant("globex", "Globex")
HEX = "65a000000000000000000001"
CONDITIONS = Conditions(read_fields({"ref": {"type": "string", "objectid": True}}))
_numbers = itertools.count()


class Listener:
    """A connection as channels see it."""

    def __init__(self, tenant: Tenant, user: Record | None) -> None:
        self.id = str(next(_numbers))
        self.tenant = tenant
        self.user = user
        self.claims = None
        self.channels: set[str] = set()


class House:
    """Channels and readers, kept as the server's connections keep them."""

    def __init__(self) -> None:
        self.channels = Channels()
        self.readers = Readers(self.channels)
        self.listeners: list[Listener] = []

    def enter(self, user: Record | None, tenant: Tenant = ACME) -> Listener:
        listener = Listener(tenant, None)
        self.listeners.append(listener)
        self.channels.join(listener, EVERYONE)
        if user is not None:
            self.login(listener, user)
        return listener

    def login(self, listener: Listener, user: Record) -> None:
        self.readers.leave(listener)
        listener.user = user
        self.channels.join(listener, AUTHENTICATED)
        self.readers.enter(listener)

    def logout(self, listener: Listener) -> None:
        self.readers.leave(listener)
        listener.user = None
        self.channels.leave(listener, AUTHENTICATED)

    def asked_one_by_one(self, rule: Any, record: Record, tenant: Tenant = ACME) -> set[Listener]:
        members = [listener for listener in self.listeners if listener.tenant is tenant]
        return {listener for listener in members if may_read(rule, listener.user, record, CONDITIONS)}

    def found(self, rule: Any, record: Record, tenant: Tenant = ACME) -> set[Listener]:
        found = Audience(rule, CONDITIONS).of(record, tenant.id, self.channels, self.readers)
        assert len(found) == len({*found})
        return {listener for listener in self.listeners if listener in found}


fields = st.sampled_from(["a", "b", "a.b", "ref", "_id", "permission", "any"])
paths = st.sampled_from(["$user._id", "$user.team", "$user.tags", "$user.x.y", "$user.refs"])
scalars = st.sampled_from([None, True, False, 0, 1, 1.0, "u1", "u2", "", HEX, HEX.upper()])
operands = scalars | paths
lists = st.lists(operands, max_size=3)
tests = st.one_of(
    operands,
    lists,
    st.builds(lambda name, value: {name: value}, st.sampled_from(["$in", "$nin"]), lists | paths),
    st.builds(lambda name, value: {name: value}, st.sampled_from(["$lt", "$lte", "$gt", "$gte", "$ne"]), operands),
)
simple = st.dictionaries(fields, tests, min_size=1, max_size=2)
queries = st.recursive(
    simple,
    lambda inner: st.builds(
        lambda key, parts, rest: {**rest, key: parts},
        st.sampled_from(["$or", "$and"]),
        st.lists(inner, min_size=1, max_size=3),
        simple | st.just({}),
    ),
    max_leaves=4,
)
rules = st.recursive(
    st.one_of(
        st.sampled_from(["public", "authenticated", "nobody"]),
        st.builds(lambda name: {"permission": name}, st.sampled_from(["read", "write"])),
        queries.filter(lambda query: query.keys().isdisjoint({"permission", "any", "all"})),
    ),
    lambda inner: st.builds(
        lambda key, parts: {key: parts}, st.sampled_from(["any", "all"]), st.lists(inner, min_size=1, max_size=3)
    ),
    max_leaves=4,
)
values = scalars | st.just(ObjectId(HEX)) | st.lists(scalars | st.just(ObjectId(HEX)), max_size=3)
records = st.fixed_dictionaries(
    {"_id": st.sampled_from(["u1", ObjectId(HEX), HEX])},
    optional={
        "a": values | st.builds(lambda value: {"b": value}, values),
        "b": values,
        "ref": st.sampled_from([ObjectId(HEX), None, "u1"]) | st.just([ObjectId(HEX)]),
        "permission": scalars,
        "any": scalars,
    },
)
users = st.none() | st.fixed_dictionaries(
    {"_id": st.sampled_from(["u1", "u2", ObjectId(HEX)])},
    optional={
        "team": values | st.just({"$ne": None}),
        "tags": st.lists(values, max_size=3) | scalars,
        "refs": st.lists(st.sampled_from([HEX, HEX.upper(), ObjectId(HEX)]), max_size=2),
        "x": st.builds(lambda value: {"y": value}, values),
        "permissions": st.lists(st.sampled_from(["read", "write"]), max_size=2) | st.sampled_from(["read", "u1", None]),
    },
)


@settings(max_examples=600, deadline=None)
@example({"a": "$user.tags"}, {"_id": "r", "a": []}, [{"_id": "u1", "tags": []}, {"_id": "u2", "tags": ["x"]}], [])
@example({"ref": "$user._id"}, {"_id": "r", "ref": ObjectId(HEX)}, [{"_id": ObjectId(HEX)}, {"_id": "u1"}], [])
@example({"a": {"$in": "$user.refs"}}, {"_id": "r", "a": ObjectId(HEX)}, [{"_id": "u1", "refs": [HEX]}], [])
@example({"permission": "read"}, {"_id": "r"}, [{"_id": "u1", "permissions": "read"}], [])
@example({"all": [{"any": [{"a": 1}, "authenticated"]}]}, {"_id": "r"}, [{"_id": "u1"}], [])
@given(rules, records, st.lists(users, max_size=5), st.lists(users, max_size=3))
def test_an_audience_is_who_passes_when_asked(
    rule: Any, record: Record, inside: list[Record | None], outside: list[Record | None]
) -> None:
    check_rule(rule)
    house = House()
    for user in inside:
        house.enter(user)
    for user in outside:
        house.enter(user, GLOBEX)
    for tenant in (ACME, GLOBEX):
        assert house.found(rule, record, tenant) == house.asked_one_by_one(rule, record, tenant)


@settings(max_examples=200, deadline=None)
@given(rules, records, st.lists(st.tuples(st.integers(0, 3), users), max_size=8))
def test_an_audience_follows_logins_logouts_and_changed_users(
    rule: Any, record: Record, changes: list[tuple[int, Record | None]]
) -> None:
    house = House()
    for user in ({"_id": "u1", "tags": ["u1"], "permissions": ["read"]}, {"_id": "u2"}, None, None):
        house.enter(user)
    house.found(rule, record)
    for at, user in changes:
        listener = house.listeners[at]
        if user is None:
            house.logout(listener)
        else:
            house.login(listener, user)
        assert house.found(rule, record) == house.asked_one_by_one(rule, record)


@pytest.mark.parametrize(
    ("rule", "channel"),
    [
        ("public", EVERYONE),
        ("authenticated", AUTHENTICATED),
        ({"any": ["authenticated", "public", {"a": 1}]}, EVERYONE),
        ({"any": ["authenticated", {"a": "$user._id"}]}, AUTHENTICATED),
        ({"any": ["authenticated", {"a": 1}]}, None),
        ({"a": 1}, None),
        ("nobody", None),
    ],
)
def test_a_rule_that_is_one_channel_is_known_beforehand(rule: Any, channel: str | None) -> None:
    assert Audience(rule).channel == channel


@pytest.mark.parametrize(
    ("rule", "record"),
    [
        ({"a": "$user._id"}, {"a": "u7"}),
        ({"a": {"$in": "$user.tags"}}, {"a": "t7"}),
        ({"$or": [{"a": "$user._id"}, {"b": {"$in": "$user.tags"}}]}, {"a": "u7", "b": "t7"}),
        ({"permission": "p7"}, {"a": "u7"}),
    ],
)
def test_equality_with_a_users_value_asks_nobody_else(
    rule: Any, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House()
    for number in range(200):
        house.enter({"_id": f"u{number}", "tags": [f"t{number}"], "permissions": [f"p{number}"]})
    audience = Audience(rule)
    assert [listener.user["_id"] for listener in audience.of(record, "acme", house.channels, house.readers)] == ["u7"]  # type: ignore[index]

    def refuse(*args: Any) -> Any:
        raise AssertionError("all members were asked for")

    monkeypatch.setattr(house.channels, "members", refuse)
    assert len(audience.of(record, "acme", house.channels, house.readers)) == 1


def test_a_login_without_a_user_is_none_of_anybodys() -> None:
    house = House()
    listener = house.enter(None)
    house.channels.join(listener, AUTHENTICATED)
    record = {"_id": "r", "a": None}
    for rule, expected in (("authenticated", 1), ({"a": "$user._id"}, 0), ({"permission": "p"}, 0)):
        assert len(Audience(rule).of(record, "acme", house.channels, house.readers)) == expected


def test_the_index_of_a_tenant_goes_with_its_last_reader() -> None:
    house = House()
    rule, record = {"a": "$user._id"}, {"_id": "r", "a": "u1"}
    listener = house.enter({"_id": "u1"})
    assert house.found(rule, record) == {listener}
    house.logout(listener)
    assert house.readers._paths == {}
    house.login(listener, {"_id": "u1"})
    assert house.found(rule, record) == {listener}
