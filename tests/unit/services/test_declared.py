"""Declared services are built once for each snapshot of a tenant, and are that tenant's alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hooks.tenant import Tenant
from services import declared
from services.application import Application
from services.declaration import parse
from services.declared import DeclaredServices
from services.isolation import Isolation
from services.memory import MemoryStore


def tenant(id: str = "acme", services: str = "{notes: {}}", epoch: int = 1) -> Tenant:
    (found,) = parse(f"tenants: [{{id: {id}, services: {services}}}]").tenants
    return Tenant(id, id, epoch=epoch, services=found.services)


@pytest.fixture
def built() -> DeclaredServices:
    return DeclaredServices(Application(), Isolation(MemoryStore()))


def test_one_snapshot_is_built_once(built: DeclaredServices) -> None:
    acme = tenant()
    assert built(acme) is built(acme)
    assert list(built(acme)) == ["notes"]


def test_a_new_snapshot_is_built_anew(built: DeclaredServices) -> None:
    old, new = tenant(), tenant(services="{plans: {}}", epoch=2)
    assert list(built(old)) == ["notes"]
    assert list(built(new)) == ["plans"]
    # A call that began with the old snapshot keeps it, and does not bring it back for others.
    assert list(built(old)) == ["notes"]
    kept = built(new)
    built(old)
    assert built(new) is kept


def test_tenants_of_one_declaration_have_services_of_their_own(built: DeclaredServices) -> None:
    acme, globex = tenant("acme"), tenant("globex")
    assert built(acme)["notes"] is not built(globex)["notes"]


def test_options_reach_the_service(built: DeclaredServices) -> None:
    services = """{
        messages: {collection: chats, id: key, paginate: {default: 5, max: 20}, multi: [patch], rules: {find: public}},
        notes: {paginate: false, multi: true}
    }"""
    found = built(tenant(services=services))
    messages: Any = found["messages"].service
    assert (messages.options.collection, messages.id, messages.options.multi) == ("chats", "key", {"patch"})
    assert (messages.options.paginate.default, messages.options.paginate.max) == (5, 20)
    assert found["messages"].rules == {"find": "public"}
    notes: Any = found["notes"].service
    assert (notes.options.collection, notes.options.paginate) == ("notes", None)
    assert notes.options.multi == {"create", "patch", "remove"}


def test_only_so_many_tenants_are_kept(monkeypatch: pytest.MonkeyPatch, built: DeclaredServices) -> None:
    monkeypatch.setattr(declared, "MOST_TENANTS", 2)
    first, second, third = tenant("one"), tenant("two"), tenant("three")
    kept = built(first)
    built(second)
    built(third)
    assert built(first) is not kept
    assert built(replace(third)) is not None


def test_what_a_service_offers_besides_reaches_it(built: DeclaredServices) -> None:
    services = """{
        messages: {collection: chats, operators: [$exists], search: [text], updates: [$inc], readonly: [role]},
        silent: {collection: chats}
    }"""
    found = built(tenant(services=services))
    messages: Any = found["messages"].service.options
    silent: Any = found["silent"].service.options
    assert (messages.operators, messages.search) == ({"$exists", "$search"}, ("text",))
    assert (messages.updates, messages.readonly, {*found["messages"].updates}) == ({"$inc"}, {"role"}, {"$inc"})
    # It keeps the words for the other one, and does not offer to look for them.
    assert (silent.operators, silent.search, found["silent"].updates) == (frozenset(), ("text",), frozenset())
