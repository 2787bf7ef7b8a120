"""Audience: who of a tenant's connections may read a record, found without asking each of them where the rule allows it.

A rule is taken apart once, into branches of which one must hold:

    everyone, or all that are logged in      one channel, encoded once
    the record alone decides                 tested once, then everyone
    a field equals a value of the user       one look into an index by that value
    anything else                            tested for each who is logged in
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from hooks.context import Connection, Record
from hooks.rules import USER, Rule, fields_of, scope_of
from services.channels import AUTHENTICATED, EVERYONE, Channels
from services.predicate import compile_filter
from services.readers import Readers


@dataclass(frozen=True, slots=True)
class _Channel:
    name: str


@dataclass(frozen=True, slots=True)
class _Static:
    """A query without `$user`."""

    rule: Rule


@dataclass(frozen=True, slots=True)
class _ByValue:
    """The user's value at `path` must be that of the record's `field`, or for a permission hold `value`.

    `sufficient` says that having it is all the branch, `whole`, asks for.
    """

    field: str | None
    path: str
    value: Any
    whole: Rule
    sufficient: bool


@dataclass(frozen=True, slots=True)
class _General:
    rule: Rule


_Branch: TypeAlias = _Channel | _Static | _ByValue | _General


class Audience:
    """Those whom one rule lets read."""

    __slots__ = ("_branches", "_by_id", "fields")

    def __init__(self, rule: Rule) -> None:
        self._branches = tuple(_branches(rule))
        self.fields = fields_of(rule)
        """The record's fields on which it depends who may read it."""
        self._by_id = "_id" in self.fields

    @property
    def channel(self) -> str | None:
        """The one channel that is the whole audience, whatever the record; None if it depends."""
        if len(self._branches) == 1 and isinstance(self._branches[0], _Channel):
            return self._branches[0].name
        return None

    def of(self, record: Record, tenant_id: str, channels: Channels, readers: Readers) -> list[Connection]:
        """The connections of the tenant that may read the record at this moment, each once."""
        seen = {**record, "_id": str(record["_id"])} if self._by_id and "_id" in record else record
        found: dict[Connection, None] = {}
        for branch in self._branches:
            found.update(dict.fromkeys(_members(branch, seen, tenant_id, channels, readers)))
        return [*found]


def may_read(rule: Rule, user: Record | None, record: Record) -> bool:
    """Whether a user, or a stranger, may read the record under the rule."""
    seen = {**record, "_id": str(record["_id"])} if "_id" in record else record
    return _matches(rule, user, seen)


def _branches(rule: Rule) -> Iterator[_Branch]:
    if isinstance(rule, str):
        if rule != "nobody":
            yield _Channel(EVERYONE if rule == "public" else AUTHENTICATED)
    elif "any" in rule:
        for part in rule["any"]:
            yield from _branches(part)
    elif "permission" in rule:
        yield _ByValue(None, "permissions", rule["permission"], rule, sufficient=True)
    elif "all" in rule:
        yield _General(rule)
    elif [*rule] == ["$or"]:
        for part in rule["$or"]:
            yield from _branches(part)
    elif not _asks_user(rule):
        yield _Static(rule)
    else:
        yield _by_value(rule) or _General(rule)


def _by_value(query: Mapping[str, Any]) -> _ByValue | None:
    """The branch by a field that must equal a value of the user, or be in a list of his."""
    for field, value in query.items():
        listed = isinstance(value, Mapping) and [*value] == ["$in"]
        path = value["$in"] if listed else value
        if field[:1] != "$" and "." not in field and isinstance(path, str) and path.startswith(USER):
            return _ByValue(field, path.removeprefix(USER), None, query, sufficient=listed and len(query) == 1)
    return None


def _members(
    branch: _Branch, record: Record, tenant_id: str, channels: Channels, readers: Readers
) -> Iterator[Connection]:
    match branch:
        case _Channel(name):
            yield from channels.members(tenant_id, (name,))
        case _Static(rule):
            if _matches(rule, None, record):
                yield from channels.members(tenant_id, (EVERYONE,))
        case _ByValue(field, path, value, whole, sufficient):
            held = value if field is None else record.get(field)
            values = held if isinstance(held, list) else [held]
            for reader in readers.having(tenant_id, path, [one for one in values if one is not None]):
                if sufficient or _matches(whole, reader.user, record):
                    yield reader
        case _General(rule):
            for member in channels.members(tenant_id, (AUTHENTICATED,)):
                if _matches(rule, member.user, record):
                    yield member


def _matches(rule: Rule, user: Record | None, record: Record) -> bool:
    scope = scope_of(rule, user)
    return scope if isinstance(scope, bool) else compile_filter(scope)(record)


def _asks_user(value: Any) -> bool:
    if isinstance(value, str):
        return value.startswith(USER)
    if isinstance(value, Mapping):
        return any(_asks_user(item) for item in value.values())
    return isinstance(value, list) and any(_asks_user(item) for item in value)
