"""A review of a tenant's access rules: what is open, what can never be, what costs too much, what nobody may call.

It says nothing of rules that are as usual. Each remark is a sentence for the person who wrote the rule.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hooks.rules import DEFAULT, NOW, USER, Rule, fields_of, scope_of, user_fields_of
from services.base import STANDARD_METHODS
from services.declaration import ServiceDeclaration
from services.predicate import Key, key_of

MOST_WAYS = 500
"""Ways to pass a rule that are looked at; a rule with more of them is not judged."""
_WRITING = {"create": "create records", "update": "replace", "patch": "change", "remove": "remove"}
_RESTRICTING = ("find", "patch", "remove")
"""Methods that look for records by more than their ids."""
_BUILT_IN = frozenset({"_id", "permissions", "username", "email"})


@dataclass(frozen=True, slots=True)
class Remark:
    """What is to be known of one method of a service, or of the service as a whole."""

    service: str
    method: str | None
    text: str

    def __str__(self) -> str:
        place = self.service if self.method is None else f"{self.service}.{self.method}"
        return f"{place}: {self.text}"


def review(services: Mapping[str, ServiceDeclaration]) -> list[Remark]:
    """The remarks on a tenant's services, in their order."""
    indexed = _indexed(services)
    asked: dict[str, str] = {}
    remarks: list[Remark] = []
    for path, service in services.items():
        if not service.rules:
            remarks.append(Remark(path, None, "nobody can call it: it has no rules"))
            continue
        for methods, rule in _by_rule(service):
            remarks += [
                Remark(path, method, text)
                for method in methods
                for text in _remarks(method, rule, service, indexed[service.collection or path])
            ]
            for name in user_fields_of(rule) - _BUILT_IN:
                asked.setdefault(name, path)
    for name, path in asked.items():
        text = f"its rules ask for '$user.{name}', which only the server writes: python -m server users set"
        remarks.append(Remark(path, None, text))
    return remarks


def _by_rule(service: ServiceDeclaration) -> Iterator[tuple[list[str], Rule]]:
    """The rules with their methods; what `default` says stands for all that have no rule of their own."""
    for name, rule in service.rules.items():
        own = [method for method in STANDARD_METHODS if method not in service.rules]
        yield (own if name == DEFAULT else [name]), rule


def _remarks(method: str, rule: Rule, service: ServiceDeclaration, indexed: frozenset[str]) -> Iterator[str]:
    if rule == "nobody":
        return
    ways = _ways(rule, service)
    if ways is not None and not any(way.is_possible for way in ways):
        yield "nobody can ever pass this rule: its conditions exclude each other"
        return
    if method in _WRITING:
        stranger = scope_of(rule, None)
        if stranger is True:
            yield f"open: anyone may {_WRITING[method]}, logged in or not"
        elif stranger is not False:
            yield f"open: strangers may {_WRITING[method]} where {_words(stranger)}"
    if method == "create" and ways is not None:
        unwritable = set.intersection(*(_unwritable(way, service) for way in ways if way.is_possible))
        for name in sorted(unwritable):
            yield f"nobody can ever pass this rule: '{name}' is readonly and has no stamp"
    if method in _RESTRICTING and (method == "find" or method in service.multi) and ways is not None:
        missed = {name for way in ways for name in way.unindexed(indexed)}
        if missed:
            names = ", ".join(sorted(missed))
            yield f"no index serves its condition: every call reads all records. Declare indexes: [{names}]"


@dataclass(slots=True)
class _Way:
    """One way to pass: conditions that hold together. Values of users are not known, and may be anything."""

    login: bool = False
    refused: bool = False
    tests: dict[str, list[tuple[str, Any]]] = field(default_factory=dict)
    lists: frozenset[str] = frozenset()
    """Fields that hold lists, or may: what their items are excludes nothing."""

    @property
    def is_possible(self) -> bool:
        return not self.refused and all(name in self.lists or _can_hold(tests) for name, tests in self.tests.items())

    def unindexed(self, indexed: frozenset[str]) -> Iterable[str]:
        if not self.tests or self.refused or not indexed.isdisjoint(self.tests):
            return ()
        # Only a condition that picks records out is worth an index, and one that names values more than a range.
        picking = [
            min((_PICKING.index(operator), name) for operator, _ in tests if operator in _PICKING)
            for name, tests in self.tests.items()
            if any(operator in _PICKING for operator, _ in tests)
        ]
        return [min(picking)[1]] if picking else ()


_PICKING = ("$eq", "$in", "$lt", "$lte", "$gt", "$gte")


def _ways(rule: Rule, service: ServiceDeclaration) -> list[_Way] | None:
    """The ways to pass; None when they are too many."""
    lists = frozenset(_lists(rule, service))
    combined = _alternatives(rule)
    return None if combined is None else [_way(parts, lists) for parts in combined]


def _alternatives(rule: Rule) -> list[list[Any]] | None:
    """The rule as alternatives of parts: words, permissions and `(field, operator, operand)`."""
    if isinstance(rule, str) or "permission" in rule:
        return [[rule]]
    if "any" in rule:
        return _either(map(_alternatives, rule["any"]))
    if "all" in rule:
        return _together(map(_alternatives, rule["all"]))
    return _query_alternatives(rule)


def _query_alternatives(query: Mapping[str, Any]) -> list[list[Any]] | None:
    parts: list[list[list[Any]] | None] = []
    for key, value in query.items():
        if key == "$or":
            parts.append(_either(map(_query_alternatives, value)))
        elif key == "$and":
            parts.append(_together(map(_query_alternatives, value)))
        else:
            tests = value if isinstance(value, Mapping) else {"$eq": value}
            parts.append([[(key, operator, operand) for operator, operand in tests.items()]])
    return _together(parts)


def _either(parts: Iterable[list[list[Any]] | None]) -> list[list[Any]] | None:
    found: list[list[Any]] = []
    for part in parts:
        if part is None or len(found) + len(part) > MOST_WAYS:
            return None
        found += part
    return found


def _together(parts: Iterable[list[list[Any]] | None]) -> list[list[Any]] | None:
    found: list[list[Any]] = [[]]
    for part in parts:
        if part is None or len(found) * len(part) > MOST_WAYS:
            return None
        found = [[*one, *other] for one, other in itertools.product(found, part)]
    return found


def _way(parts: list[Any], lists: frozenset[str]) -> _Way:
    way = _Way(lists=lists)
    for part in parts:
        if isinstance(part, tuple):
            name, operator, operand = part
            way.tests.setdefault(name, []).append((operator, operand))
        elif part == "nobody":
            way.refused = True
        elif part != "public":
            way.login = True
    return way


def _can_hold(tests: list[tuple[str, Any]]) -> bool:
    """Whether a single value can pass all tests of a field; values of users and moments are not judged."""
    known = [(operator, operand) for operator, operand in tests if not _is_open(operand)]
    wanted: set[Key] | None = None
    for operator, operand in known:
        if operator in ("$eq", "$in"):
            keys = {key_of(one) for one in (operand if operator == "$in" else [operand])}
            wanted = keys if wanted is None else wanted & keys
    refused = {
        key_of(one)
        for operator, operand in known
        if operator in ("$ne", "$nin")
        for one in (operand if operator == "$nin" else [operand])
    }
    bounds = [(operator, key_of(operand)) for operator, operand in known if operator in _BOUNDS]
    if wanted is not None:
        return any(key not in refused and all(_BOUNDS[name](key, bound) for name, bound in bounds) for key in wanted)
    lower = [(bound, name == "$gt") for name, bound in bounds if name in ("$gt", "$gte")]
    upper = [(bound, name == "$lt") for name, bound in bounds if name in ("$lt", "$lte")]
    return all(
        low[0] == high[0] and (low < high or (low == high and not (strict_low or strict_high)))
        for low, strict_low in lower
        for high, strict_high in upper
    )


_BOUNDS: Mapping[str, Any] = {
    "$lt": lambda key, bound: key[0] == bound[0] and key < bound,
    "$lte": lambda key, bound: key[0] == bound[0] and key <= bound,
    "$gt": lambda key, bound: key[0] == bound[0] and key > bound,
    "$gte": lambda key, bound: key[0] == bound[0] and key >= bound,
}


def _is_open(operand: Any) -> bool:
    if isinstance(operand, list):
        return any(map(_is_open, operand))
    return isinstance(operand, str) and (operand == NOW or operand.startswith(USER))


def _lists(rule: Rule, service: ServiceDeclaration) -> Iterator[str]:
    """The rule's fields that may hold lists, as far as the schema does not say otherwise."""
    declared = service.schema_ or {}
    for name in fields_of(rule) | {name for name in _paths(rule) if "." in name}:
        entry = declared.get(name)
        types = entry.get("type") if isinstance(entry, Mapping) else None
        if name != "_id" and (types is None or types == "array" or (isinstance(types, list) and "array" in types)):
            yield name


def _paths(rule: Any) -> Iterator[str]:
    if isinstance(rule, Mapping):
        for key, value in rule.items():
            yield key
            yield from _paths(value)
    elif isinstance(rule, list):
        for item in rule:
            yield from _paths(item)


def _unwritable(way: _Way, service: ServiceDeclaration) -> set[str]:
    """Fields that the way asks to hold something, though neither a client nor a stamp can write them."""
    asked = {
        name.partition(".")[0]
        for name, tests in way.tests.items()
        if any(operator in _PICKING and operand is not None for operator, operand in tests)
    }
    return asked.intersection(service.readonly) - set(service.stamp)


def _indexed(services: Mapping[str, ServiceDeclaration]) -> dict[str, frozenset[str]]:
    """By collection: the fields with which an index begins, behind the tenant."""
    found: dict[str, set[str]] = {}
    for path, service in services.items():
        first = {fields[0].removeprefix("-") for fields in (*service.indexes, *service.unique)}
        found.setdefault(service.collection or path, {"_id"}).update(first, {service.id})
    return {name: frozenset(fields) for name, fields in found.items()}


def _words(scope: Any) -> str:
    """A condition as a person writes it in the file."""
    if isinstance(scope, Mapping):
        return "{" + ", ".join(f"{key}: {_words(value)}" for key, value in scope.items()) + "}"
    if isinstance(scope, list):
        return "[" + ", ".join(map(_words, scope)) + "]"
    if isinstance(scope, bool) or scope is None:
        return {True: "true", False: "false", None: "null"}[scope]
    return NOW if not isinstance(scope, (str, int, float)) else str(scope)
