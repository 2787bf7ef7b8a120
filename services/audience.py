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

from bson import ObjectId

from hooks.conditions import Conditions, stored_id
from hooks.context import Connection, Record
from hooks.rules import USER, Rule, fields_of, needs_login, scope_of, user_fields_of
from services.channels import AUTHENTICATED, EVERYONE, Channels
from services.predicate import compile_filter
from services.readers import Readers


@dataclass(frozen=True, slots=True)
class _Channel:
    name: str


@dataclass(frozen=True, slots=True)
class _Static:
    """What is the same for all callers: a query without `$user`, or several."""

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
    """Whom a stranger's answer does not include is asked one by one: what admits strangers admits all."""

    rule: Rule


_Branch: TypeAlias = _Channel | _Static | _ByValue | _General
_PLAIN = Conditions()


class Audience:
    """Those whom one rule lets read."""

    __slots__ = ("_branches", "_conditions", "channel", "fields")

    def __init__(self, rule: Rule, conditions: Conditions = _PLAIN) -> None:
        """`conditions` prepares the rule's queries for the service's records."""
        self._conditions = conditions
        branches = tuple(_branches(rule))
        if _Channel(EVERYONE) in branches:
            branches = (_Channel(EVERYONE),)
        elif _Channel(AUTHENTICATED) in branches:
            branches = (_Channel(AUTHENTICATED), *filter(_admits_strangers, branches))
        self._branches = branches
        first = branches[0] if len(branches) == 1 else None
        self.channel = first.name if isinstance(first, _Channel) else None
        """The one channel that is the whole audience, whatever the record; None if it depends."""
        self.fields = fields_of(rule)
        """The record's fields on which it depends who may read it."""

    def of(self, record: Record, tenant_id: str, channels: Channels, readers: Readers) -> list[Connection]:
        """The connections of the tenant that may read the record at this moment, each once."""
        seen = _as_stored(record)
        found: dict[Connection, None] = {}
        for branch in self._branches:
            found.update(dict.fromkeys(self._members(branch, seen, tenant_id, channels, readers)))
        return [*found]

    def _members(
        self, branch: _Branch, record: Record, tenant_id: str, channels: Channels, readers: Readers
    ) -> Iterator[Connection]:
        match branch:
            case _Channel(name):
                yield from channels.members(tenant_id, (name,))
            case _Static(rule):
                if _matches(rule, None, record, self._conditions):
                    yield from channels.members(tenant_id, (EVERYONE,))
            case _ByValue(field, path, value, whole, sufficient):
                held = value if field is None else record.get(field)
                values = [*held, held] if isinstance(held, list) else [held]
                # An id that the schema does not declare is kept as one, but no user's text equals it.
                certain = sufficient and not any(isinstance(one, ObjectId) for one in values)
                for reader in readers.having(tenant_id, path, [one for one in values if one is not None]):
                    if certain or _matches(whole, reader.user or {}, record, self._conditions):
                        yield reader
            case _General(rule):
                if _matches(rule, None, record, self._conditions):
                    yield from channels.members(tenant_id, (EVERYONE,))
                    return
                for member in channels.members(tenant_id, (AUTHENTICATED,)):
                    if _matches(rule, member.user or {}, record, self._conditions):
                        yield member


def may_read(rule: Rule, user: Record | None, record: Record, conditions: Conditions = _PLAIN) -> bool:
    """Whether a user, or a stranger, may read the record under the rule."""
    return _matches(rule, user, _as_stored(record), conditions)


def _admits_strangers(branch: _Branch) -> bool:
    return isinstance(branch, (_Static, _General)) and not needs_login(branch.rule)


def _as_stored(record: Record) -> Record:
    return {**record, "_id": stored_id(record["_id"])} if "_id" in record else record


def _branches(rule: Rule) -> Iterator[_Branch]:
    if isinstance(rule, str):
        if rule != "nobody":
            yield _Channel(EVERYONE if rule == "public" else AUTHENTICATED)
    elif "any" in rule:
        for part in rule["any"]:
            yield from _branches(part)
    elif "permission" in rule:
        yield _ByValue(None, "permissions", rule["permission"], rule, sufficient=False)
    elif "all" in rule:
        yield _General(rule) if _asks_who(rule) else _Static(rule)
    else:
        yield from _query_branches(rule)


def _asks_who(rule: Rule) -> bool:
    """Whether the answer may differ between callers."""
    if isinstance(rule, str):
        return rule == "authenticated"
    for combined in ("any", "all"):
        if combined in rule:
            return any(map(_asks_who, rule[combined]))
    return bool(user_fields_of(rule))


def _query_branches(query: Mapping[str, Any]) -> Iterator[_Branch]:
    if [*query] == ["$or"]:
        for part in query["$or"]:
            yield from _query_branches(part)
    elif not user_fields_of([*query.values()]):
        yield _Static({"$and": [query]})
    else:
        yield _by_value(query) or _General({"$and": [query]})


def _by_value(query: Mapping[str, Any]) -> _ByValue | None:
    """The branch by a field that must equal a value of the user, or be in a list of his."""
    for field, value in query.items():
        listed = isinstance(value, Mapping) and [*value] == ["$in"]
        path = value["$in"] if listed else value
        if field[:1] != "$" and "." not in field and isinstance(path, str) and path.startswith(USER):
            whole = {"$and": [query]}
            return _ByValue(field, path.removeprefix(USER), None, whole, sufficient=listed and len(query) == 1)
    return None


def _matches(rule: Rule, user: Record | None, record: Record, conditions: Conditions) -> bool:
    scope = scope_of(rule, user)
    return scope if isinstance(scope, bool) else compile_filter(conditions(scope))(record)
