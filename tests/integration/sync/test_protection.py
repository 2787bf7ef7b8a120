"""TENANCY 3.4: copies are written by nobody but the sync, whichever way a write takes (10.4, 9..11)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio

from hooks.context import Params, Record
from hooks.errors import BadRequest, FeathersError, Forbidden, Unavailable
from server.main import Roost
from services.isolation import Isolation, ProtectedCollection, ScopedCollection
from services.mongo import MongoService, ServiceOptions
from services.protection import SyncCapability
from services.update import UPDATE_OPERATORS
from tests.integration.entities.people import TRANSPORTS
from tests.integration.sync.people import (
    NORTH,
    SOUTH,
    administrator,
    make_copy,
    make_person,
    make_role,
    refusal,
    tenant,
)
from tests.support.client import fresh

pytestmark = pytest.mark.asyncio(loop_scope="module")
each_transport = pytest.mark.parametrize("transport", TRANSPORTS)
KINDS: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "roles": ("roles", "role", {}, {"description": "changed"}),
    "resource-servers": (
        "resource_servers",
        "resource server",
        {"identifier": "urn:copy"},
        {"scopes": [{"value": "all"}]},
    ),
    "connections": ("connections", "connection", {"strategy": "oidc", "options": {}}, {"options": {"scopes": ["x"]}}),
}
"""Path, collection, what a person calls it, fields of a copy, and a change."""
SENTENCE = (
    "This {} is a system resource and cannot be modified; edit the original in the control plane and it will be synced"
)
EVERY = "every-role"
"""A service over the roles with all that a data service can offer."""


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def _open_service(served: Roost) -> AsyncIterator[None]:
    options = ServiceOptions(
        "roles",
        multi=frozenset({"create", "patch", "remove"}),
        operators=frozenset({"$exists"}),
        updates=frozenset(UPDATE_OPERATORS),
    )
    served.app.use(EVERY, MongoService(served.backend.isolation, options), rules="public")
    yield


async def stored(roost: Roost, app: str, collection: str, id: Any) -> Record:
    """A record as it is kept."""
    (found,) = await roost.backend.isolation.collection(await tenant(roost, app), collection).find({"_id": id})
    return found


@each_transport
@pytest.mark.parametrize("path", KINDS)
async def test_copies_are_read_and_not_written(served: Roost, transport: str, path: str) -> None:
    """PR-1, PR-2: update, patch, remove are 403 with reason, type and hint; the id may be given in any form (10.4, 9)."""
    collection, name, fields, change = KINDS[path]
    if "identifier" in fields:
        fields = {"identifier": fresh("urn:copy")}
    copy = await make_copy(served, NORTH, collection, **fields)
    id = str(copy["_id"])
    whole = {"name": copy["name"]} if "name" in copy else {**fields}
    if "strategy" in fields:
        whole |= {"strategy": "oidc"}
    async with administrator(served, NORTH, transport) as ada:
        assert (await ada.call("get", path, id))["is_system"] is True
        calls: list[tuple[Any, ...]] = [
            ("patch", path, id, change),
            ("patch", path, id, {}),
            ("patch", path, id.upper(), change),
            ("update", path, id, {**whole, **change}),
            ("remove", path, id),
            ("patch", f"/{path}/", id, change),
        ]
        for method, *arguments in calls:
            error = await refusal(ada, method, *arguments)
            assert (error.code, error.message) == (403, SENTENCE.format(name)), (method, arguments)
            assert error.data == {"reason": "SystemResource"}
        assert (await refusal(ada, "patch", path, None, change)).code == 405
        assert (await refusal(ada, "remove", path, None)).code == 405
    assert await stored(served, NORTH, collection, copy["_id"]) == {
        **copy,
        "synced_at": (await stored(served, NORTH, collection, copy["_id"]))["synced_at"],
    }


@each_transport
async def test_what_belongs_to_a_copy_is_not_written(served: Roost, transport: str) -> None:
    """PR-2, 10.4, 9: permissions of a copied role are neither added nor removed, a secret of a copied connection not set."""
    role = await make_copy(served, NORTH, "roles")
    link = {"role_id": str(role["_id"]), "rs_identifier": "management", "permission": "read:roles"}
    triple = await make_copy(served, NORTH, "role_permissions", **link)
    connection = await make_copy(served, NORTH, "connections", strategy="oidc")
    path = f"roles/{role['_id']}/permissions"
    async with administrator(served, NORTH, transport) as ada:
        more = {"rs_identifier": "management", "permission": "read:users"}
        for error in (
            await refusal(ada, "create", path, more),
            await refusal(ada, "create", f"{path}/", more),
            await refusal(ada, "remove", path, str(triple["_id"])),
            await refusal(ada, "patch", "connections", str(connection["_id"]), {"secrets": {"client_secret": "new"}}),
        ):
            assert (error.code, error.data) == (403, {"reason": "SystemResource"})
    assert await served.backend.secrets.get(NORTH, f"connection.{connection['_id']}.client_secret") is None
    triples = served.backend.isolation.collection(await tenant(served, NORTH), "role_permissions")
    assert await triples.count({"role_id": str(role["_id"])}) == 1


@each_transport
async def test_many_at_once_are_written_all_or_none(served: Roost, transport: str) -> None:
    """PR-3: a query that matches one copy is refused as a whole, and nothing that it matched was written."""
    word = fresh("batch")
    copy = await make_copy(served, NORTH, "roles", description=word)
    async with administrator(served, NORTH, transport) as ada:
        own = [await ada.call("create", "roles", {"name": fresh(), "description": word}) for _ in range(3)]
        queries: list[dict[str, Any]] = [
            {"description": word},
            {"description": word, "$limit": 2, "$sort": {"_id": 1}},
            {"$or": [{"description": word}, {"name": "none"}]},
            {"source_id": copy["source_id"]},
            {"name": {"$in": [copy["name"], own[0]["name"]]}},
        ]
        for query in queries:
            for method, arguments in (("patch", (None, {"description": "gone"}, query)), ("remove", (None, query))):
                error = await refusal(ada, method, EVERY, *arguments)
                assert (error.code, error.data) == (403, {"reason": "SystemResource"}), (method, query)
        page = await ada.call("find", "roles", {"description": word})
        assert page["total"] == 4
        query = {"description": word, "name": {"$in": [role["name"] for role in own]}}
        assert len(await ada.call("patch", EVERY, None, {"description": "patched"}, query)) == 3
    assert (await stored(served, NORTH, "roles", copy["_id"]))["description"] == word


async def test_a_copy_that_comes_between_check_and_write_is_not_touched(
    served: Roost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PR-3: the executed filter itself reaches no copy: without the check, nothing of one is written all the same."""
    north = await tenant(served, NORTH)
    word = fresh("race")
    copy = await make_copy(served, NORTH, "roles", description=word)
    roles = served.backend.isolation.collection(north, "roles")

    async def see_nothing(self: ScopedCollection, filter: Any) -> None:
        """As if the copy were made one moment later."""

    monkeypatch.setattr(ProtectedCollection, "check_writable", see_nothing)
    chosen = {"description": word}
    assert await roles.update_many(chosen, {"$set": {"description": "x"}}) == 0
    assert await roles.delete_many(chosen) == 0
    assert await roles.find_one_and_update(chosen, {"$set": {"description": "x"}}) is None
    assert await roles.find_one_and_replace(chosen, {"name": "x"}) is None
    assert await roles.find_one_and_delete(chosen) is None
    assert (await stored(served, NORTH, "roles", copy["_id"]))["description"] == word


@each_transport
async def test_fields_of_copies_are_not_written(served: Roost, transport: str) -> None:
    """PR-4: refused with 400 in every position of every write, on the own services and on one that offers all operators."""
    async with administrator(served, NORTH, transport) as ada:
        role = await ada.call("create", "roles", {"name": fresh()})
        for field in ("is_system", "source_id", "source_rev", "synced_at"):
            for value in (True, "x", None, {"a": 1}):
                assert (await refusal(ada, "create", "roles", {"name": fresh(), field: value})).code == 400
                assert (await refusal(ada, "patch", "roles", role["_id"], {field: value})).code == 400
                assert (await refusal(ada, "update", "roles", role["_id"], {"name": fresh(), field: value})).code == 400
                assert (await refusal(ada, "create", EVERY, {"name": fresh(), field: value})).code == 400
                assert (await refusal(ada, "update", EVERY, role["_id"], {"name": fresh(), field: value})).code == 400
                assert (await refusal(ada, "patch", EVERY, role["_id"], {field: value})).code == 400
            for operator in UPDATE_OPERATORS:
                operand: Any = True if operator == "$unset" else 1
                for name in (field, f"{field}.inner"):
                    error = await refusal(ada, "patch", EVERY, role["_id"], {operator: {name: operand}})
                    assert error.code == 400, (operator, name)
        assert (await ada.call("get", "roles", role["_id"])).get("is_system") is None


OPERATORS: list[dict[str, Any]] = [
    {"$set": {"is_system": False}},
    {"$set": {"source_id.x": 1}},
    {"$unset": {"is_system": ""}},
    {"$rename": {"is_system": "was"}},
    {"$rename": {"name": "source_id"}},
    {"$setOnInsert": {"source_rev": 0}},
    {"$currentDate": {"synced_at": True}},
    {"$bit": {"source_rev": {"or": 1}}},
    [{"$set": {"is_system": False}}],  # type: ignore[list-item]
    {"is_system": False},
]


@pytest.mark.parametrize("update", OPERATORS, ids=str)
async def test_the_servers_own_code_cannot_write_them_either(served: Roost, update: Any) -> None:
    """PR-1, PR-4, 10.4, 9: pipelines, `$rename`, `$unset`, paths, replacements - below all services."""
    roles = served.backend.isolation.collection(await tenant(served, NORTH), "roles")
    with pytest.raises(BadRequest):
        await roles.find_one_and_update({"name": "any"}, update)
    with pytest.raises(BadRequest):
        await roles.update_many({"name": "any"}, update)
    with pytest.raises(TypeError):
        served.backend.isolation.copies(await tenant(served, NORTH), "roles", object())  # type: ignore[arg-type]


@each_transport
async def test_not_found_comes_before_protected(served: Roost, transport: str) -> None:
    """PR-7: another tenant's copy is not there."""
    copy = await make_copy(served, SOUTH, "roles")
    async with administrator(served, NORTH, transport) as ada:
        for method, *arguments in (
            ("patch", str(copy["_id"]), {"description": "x"}),
            ("update", str(copy["_id"]), {"name": "x"}),
            ("remove", str(copy["_id"])),
        ):
            assert (await refusal(ada, method, "roles", *arguments)).code == 404
        path = f"roles/{copy['_id']}/permissions"
        assert (await refusal(ada, "create", path, {"rs_identifier": "management", "permission": "x"})).code == 404


@each_transport
async def test_copies_are_used(served: Roost, transport: str) -> None:
    """PR-6: a copied role is given, a copied connection decorated; its name is taken (409)."""
    role = await make_copy(served, NORTH, "roles")
    connection = await make_copy(served, NORTH, "connections", strategy="oidc")
    server = await make_copy(served, NORTH, "resource_servers", identifier=fresh("urn:x"), scopes=[{"value": "go"}])
    _, user = await make_person(served, NORTH)
    async with administrator(served, NORTH, transport) as ada:
        await ada.call("create", "user-roles", {"user_id": user, "role_id": str(role["_id"])})
        await ada.call("create", "connection-overrides", {"connection_id": str(connection["_id"]), "enabled": False})
        own = await make_role(ada, "go", server=server["identifier"])
        assert (await ada.call("find", f"roles/{own}/permissions"))["total"] == 1
        assert (await refusal(ada, "create", "roles", {"name": role["name"]})).code == 409
        again = {"name": connection["name"], "strategy": "oidc"}
        assert (await refusal(ada, "create", "connections", again)).code == 409
        taken = {"identifier": server["identifier"]}
        assert (await refusal(ada, "create", "resource-servers", taken)).code == 409


async def test_what_cannot_be_determined_is_not_written(served: Roost, monkeypatch: pytest.MonkeyPatch) -> None:
    """PR-5, 10.4, 11: when the look for copies fails, the call fails with 503 and nothing is written."""
    north = await tenant(served, NORTH)
    word = fresh("closed")
    await make_copy(served, NORTH, "roles", description=word)
    role = await make_copy(served, NORTH, "roles")
    roles = served.backend.isolation.collection(north, "roles")
    triples = served.backend.isolation.collection(north, "role_permissions")

    async def fail(self: ScopedCollection, filter: Any) -> int:
        raise Unavailable

    monkeypatch.setattr(ScopedCollection, "count", fail)
    link = {"role_id": str(role["_id"]), "rs_identifier": "management", "permission": "read:users"}
    writes: list[Callable[[], Awaitable[Any]]] = [
        lambda: roles.update_many({"description": word}, {"$set": {"description": "x"}}),
        lambda: roles.delete_many({"description": word}),
        lambda: roles.find_one_and_delete({"_id": role["_id"]}),
        lambda: triples.insert([link]),
    ]
    for write in writes:
        with pytest.raises(Unavailable):
            await write()
    monkeypatch.undo()
    assert await roles.count({"description": word}) == 1
    assert await triples.count({"role_id": str(role["_id"])}) == 0


async def _attack(roost: Roost, app: str) -> list[str]:
    """Writes that must be refused; those that were not."""
    role = await make_copy(roost, app, "roles", description=fresh("target"))
    triple = {"rs_identifier": "management", "permission": "read:users"}
    there = await tenant(roost, app)
    query = {"description": role["description"]}
    calls: dict[str, tuple[str, dict[str, Any]]] = {
        "patch": ("roles", {"id": role["_id"], "data": {"description": role["description"]}}),
        "update": ("roles", {"id": role["_id"], "data": {"name": role["name"], "description": role["description"]}}),
        "create": (f"roles/{role['_id']}/permissions", {"data": triple}),
        "remove": ("roles", {"id": role["_id"]}),
    }
    succeeded = []
    for method, (path, arguments) in calls.items():
        try:
            await roost.app.call(path, method, Params(tenant=there), **arguments)
        except Forbidden:
            continue
        succeeded.append(method)
    for method in ("patch", "remove"):
        again = await make_copy(roost, app, "roles", **query)
        many = Params(tenant=there, query={"_id": again["_id"]})
        try:
            await roost.app.call(EVERY, method, many, data={"description": "x"} if method == "patch" else None)
        except FeathersError:
            continue
        succeeded.append(f"{method} many")
    return succeeded


async def test_the_guard_is_what_refuses(served: Roost, monkeypatch: pytest.MonkeyPatch) -> None:
    """PR-1, 10.4, 10: through the assembled server no write reaches a copy; with the guard taken away, each of them does."""
    assert await _attack(served, SOUTH) == []

    def plain(self: Isolation, tenant: Any, name: str, searched: Any = ()) -> ScopedCollection:
        return self._confine(tenant, name, searched)

    monkeypatch.setattr(Isolation, "collection", plain)
    assert await _attack(served, SOUTH) == ["patch", "update", "create", "remove", "patch many", "remove many"]


async def test_only_collections_with_copies_pay(served: Roost) -> None:
    """PR-1: other collections are what they were; whoever holds the capability writes copies."""
    north = await tenant(served, NORTH)
    assert type(served.backend.isolation.collection(north, "notes")) is ScopedCollection
    copy = await make_copy(served, NORTH, "roles")
    copies = served.backend.isolation.copies(north, "roles", SyncCapability())
    changed = await copies.find_one_and_update({"_id": copy["_id"]}, {"$set": {"description": "synced"}})
    assert changed is not None
    assert changed["description"] == "synced"
