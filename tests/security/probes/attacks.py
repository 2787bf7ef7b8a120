"""The generator: for each method of a service, the calls by which one tenant could get at what is another's."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tests.security.probes.declarations import Probe
from tests.security.probes.names import Names

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Attack:
    """A call. One that is `alike` is answered as if there were nothing of what it names."""

    method: str
    path: str
    arguments: tuple[Any, ...]
    alike: bool = True


@dataclass(frozen=True)
class Target:
    """A record by its names: one of the other tenant's, or one that is nowhere."""

    names: Names
    values: Mapping[str, Any]
    """Those of its fields by which it may be looked for."""


@dataclass(frozen=True)
class Attacker:
    """Whoever attacks, by what is his own."""

    names: Names
    id: str
    """Of his own record."""


def attacks(probe: Probe, path: str, methods: Sequence[str], own: Attacker, target: Target) -> Iterator[Attack]:
    """All calls of a service that are about a target."""
    places = [path] if probe.where is None else [probe.where(own.names), probe.where(target.names)]
    for place in places:
        for method in methods:
            for arguments, alike in _CALLS.get(method, _own_method)(probe, method, own, target):
                yield Attack(method, place, arguments, alike)


Arguments = Iterator[tuple[tuple[Any, ...], bool]]


def queries(probe: Probe, own: Attacker, target: Target) -> Iterator[dict[str, Any]]:
    """Queries that would find the record if nothing stood in between."""
    key, id = probe.id, target.names.id
    yield from ({key: id}, {key: {"$in": [id, own.id]}}, {key: {"$gte": id, "$lte": id}}, {key: {"$ne": own.id}})
    yield from ({"$or": [{key: id}]}, {"$and": [{"$or": [{key: id}, {key: own.id}]}]})
    for field, value in target.values.items():
        one = value[0] if isinstance(value, list) and value else value
        yield from ({field: one}, {field: {"$in": [one, "x"]}}, {field: {"$ne": "x"}})
        yield from ({"$or": [{field: one}, {key: id}]}, {"$and": [{field: one}]})
    yield from ({}, {"$limit": 50, "$skip": 0}, {"$sort": {key: -1}})


def forged(probe: Probe, own: Attacker, target: Target) -> Iterator[dict[str, Any]]:
    """Queries that name a tenant, in every position."""
    app, id = target.names.app, target.names.id
    yield from ({"app_id": app}, {"app_id": {"$ne": own.names.app}}, {"app_id": {"$in": [app, own.names.app]}})
    yield from ({"$or": [{"app_id": app}, {probe.id: id}]}, {"$and": [{"$or": [{"app_id": {"$gt": ""}}]}]})
    yield from ({"_id.a": app}, {"_id": {"a": app, "i": id}}, {"_id": {"$in": [{"a": app, "i": id}]}})
    yield from ({"$select": ["app_id"]}, {"$sort": {"app_id": 1}}, {"$where": f"this.app_id=='{app}'"})


def stamps(target: Target) -> Iterator[dict[str, Any]]:
    """What would move a record to another tenant if it were written."""
    app, id = target.names.app, target.names.id
    yield from ({"app_id": app}, {"$set": {"app_id": app}}, {"x": {"app_id": app}}, {"_id": {"a": app, "i": id}})


def _find(probe: Probe, method: str, own: Attacker, target: Target) -> Arguments:
    for query in (*queries(probe, own, target), *forged(probe, own, target)):
        yield (query,), True


def _get(probe: Probe, method: str, own: Attacker, target: Target) -> Arguments:
    id, app = target.names.id, target.names.app
    for query in ({}, {"$select": [*target.values]}, dict(target.values), {"app_id": app}, {"$or": [{"app_id": app}]}):
        yield (id, query), True
    for odd in (f"{app}/{id}", f"{app}:{id}", {"a": app, "i": id}, {"$in": [id]}):
        yield (odd, {}), True
    yield (own.id, {"app_id": app}), True


def _create(probe: Probe, method: str, own: Attacker, target: Target) -> Arguments:
    id = target.names.id
    # By the names that are unique there, and as part of what is there.
    yield (probe.data(target.names.known()), {}), True
    yield (probe.data(_fresh(own)), {}), probe.where is not None
    for name in ("user", "member", "organization", "role", "server", "connection", "session", "job"):
        mixed = replace(_fresh(own), **{name: getattr(target.names, name)})
        if probe.data(mixed) != probe.data(replace(mixed, **{name: getattr(own.names, name)})):
            yield (probe.data(mixed), {}), True
    yield ({**probe.data(_fresh(own)), probe.id: id}, {}), True
    for stamp in stamps(target):
        yield ({**probe.data(_fresh(own)), **stamp}, {}), True
    yield ([probe.data(_fresh(own)), {**probe.data(_fresh(own)), "app_id": target.names.app}], {}), True
    yield (probe.data(_fresh(own)), {"app_id": target.names.app}), True


def _change(probe: Probe, method: str, own: Attacker, target: Target) -> Arguments:
    id, app = target.names.id, target.names.app
    change = probe.change(target.names.known())
    for query in ({}, dict(target.values), {"app_id": app}, {"$or": [{"app_id": app}]}):
        yield (id, change, query), True
    yield ({"a": app, "i": id}, change, {}), True
    for stamp in stamps(target):
        yield (own.id, {**probe.change(_fresh(own)), **stamp}, {}), True
        yield (id, stamp, {}), True
    if method == "patch":
        yield (own.id, {"_id": id}, {}), True
    if probe.whole:
        for query in (*_many(probe, own, target), *forged(probe, own, target)):
            yield (None, {"detail": "x"}, query), True


def _remove(probe: Probe, method: str, own: Attacker, target: Target) -> Arguments:
    id, app = target.names.id, target.names.app
    for query in ({}, dict(target.values), {"app_id": app}, {"confirm": app}):
        yield (id, query), True
    yield ({"a": app, "i": id}, {}), True
    if probe.whole:
        for query in (*_many(probe, own, target), *forged(probe, own, target)):
            yield (None, query), query != {}
        # What is his own may go; the rest stays.
        yield (None, {probe.id: {"$in": [own.id, id]}}), False
        yield (None, {"$or": [{"app_id": {"$ne": "x"}}, {probe.id: id}]}), False


def _many(probe: Probe, own: Attacker, target: Target) -> Iterator[dict[str, Any]]:
    key, id = probe.id, target.names.id
    yield from ({key: id}, {key: {"$in": [id]}}, {"$or": [{key: id}]}, {"$or": [{key: id}, *_each(target)]})


def _each(target: Target) -> list[dict[str, Any]]:
    return [{field: value[0] if isinstance(value, list) else value} for field, value in target.values.items()]


def _own_method(probe: Probe, method: str, own: Attacker, target: Target) -> Arguments:
    data = probe.calls[method](target.names.known())
    yield (data, {}), True
    yield (data, {"app_id": target.names.app}), True
    for stamp in stamps(target):
        yield ({**data, **stamp}, {}), True


def _fresh(own: Attacker) -> Names:
    return replace(own.names, word=f"{own.names.app}-new-{next(_numbers)}")


_CALLS: Mapping[str, Callable[[Probe, str, Attacker, Target], Arguments]] = {
    "find": _find,
    "get": _get,
    "create": _create,
    "update": _change,
    "patch": _change,
    "remove": _remove,
}
