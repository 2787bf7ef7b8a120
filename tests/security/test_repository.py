"""RE-1 to RE-7, DB-9: there is one way to tenants' records, it is scoped whatever is asked, and every other way is known."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import services
from hooks.context import Params
from hooks.errors import BadRequest
from hooks.tenant import Tenant
from services.isolation import Isolation, ScopedCollection
from services.memory import MemoryService, MemoryStore
from services.mongo import ServiceOptions

ACME, GLOBEX = Tenant("acme", "Acme"), Tenant("globex", "Globex")
METHODS = {
    *("find", "count", "insert", "find_one_and_update", "find_one_and_replace", "find_one_and_delete"),
    *("update_many", "delete_many", "check_writable", "namespace"),
}
UNSCOPED = {
    "server/dropping.py": "tests and trials delete the whole database with the server",
    "server/mailing.py": "a provider's client, no database's",
    "server/oauth.py": "an HTTP client, no database's",
    "services/authentication/oauth.py": "an HTTP client, no database's",
    "services/control": "the catalogue and the control plane's own; moves, migrations, purge and backup of one tenant",
    "services/database": "the store itself",
    "services/placement": "databases are brought about, checked and dropped",
}
"""RE-7: who may reach a database other than by a `ScopedCollection`, and why."""


def test_a_scoped_collection_offers_nothing_that_could_not_be_scoped() -> None:
    """RE-2, RE-3: no pipelines, no bulk writes, no estimated counts, no distinct values, no streams, no raw collection."""
    offered = {name for name, _ in inspect.getmembers(ScopedCollection) if not name.startswith("_")}
    assert offered == METHODS


def calls(notes: ScopedCollection) -> dict[str, Callable[[], Awaitable[Any]]]:
    """Each method, asked for everything that there is."""
    return {
        "find": lambda: notes.find({}),
        "count": lambda: notes.count({}),
        "find_one_and_update": lambda: notes.find_one_and_update({}, {"$set": {"n": 2}}),
        "find_one_and_replace": lambda: notes.find_one_and_replace({}, {"n": 3}),
        "find_one_and_delete": lambda: notes.find_one_and_delete({}),
        "update_many": lambda: notes.update_many({}, {"$set": {"n": 4}}),
        "delete_many": lambda: notes.delete_many({}),
    }


@pytest.mark.parametrize("method", sorted(METHODS - {"insert", "check_writable", "namespace"}))
async def test_every_method_reaches_the_own_records_alone(method: str) -> None:
    """RE-1, RE-3: also with an empty filter; what another tenant has is neither told, counted, changed nor deleted."""
    isolation = Isolation(MemoryStore())
    theirs = isolation.collection(GLOBEX, "notes")
    await theirs.insert([{"_id": "one", "n": 1}, {"_id": "two", "n": 1}])
    before = await theirs.find({})
    outcome = await calls(isolation.collection(ACME, "notes"))[method]()
    assert outcome in ([], 0, None)
    assert await theirs.find({}) == before


@pytest.mark.parametrize("app_id", ["globex", {"$ne": "acme"}, {"$in": ["acme", "globex"]}, None, ["acme"]])
async def test_a_filter_that_names_another_tenant_is_refused(app_id: Any) -> None:
    """RE-1: a conflicting `app_id` is 400, in any branch."""
    notes = Isolation(MemoryStore()).collection(ACME, "notes")
    for filter in ({"app_id": app_id}, {"$or": [{"app_id": app_id}]}, {"$and": [{"n": 1}, {"app_id": app_id}]}):
        with pytest.raises(BadRequest):
            await notes.find(filter)


@pytest.mark.parametrize(
    "update",
    [
        {"$set": {"app_id": "globex"}},
        {"$set": {"_id": "x"}},
        {"$unset": {"app_id": ""}},
        {"$rename": {"n": "app_id"}},
        {"$rename": {"app_id": "n"}},
        {"$set": {"_id.a": "globex"}},
        {"n": 1},
        [{"$set": {"app_id": "globex"}}],
    ],
)
async def test_an_update_cannot_touch_what_binds_a_record(update: Any) -> None:
    """RE-1: in `$set`, `$unset`, `$rename`, as a replacement, as a pipeline."""
    notes = Isolation(MemoryStore()).collection(ACME, "notes")
    for write in (notes.find_one_and_update, notes.update_many):
        with pytest.raises(BadRequest):
            await write({}, update)


async def test_the_same_id_in_two_tenants_is_two_records() -> None:
    """RE-4: an id is bound to its tenant, so that a get by it finds the own record, or none."""
    isolation = Isolation(MemoryStore())
    for tenant, n in ((ACME, 1), (GLOBEX, 2)):
        await isolation.collection(tenant, "notes").insert([{"_id": "same", "n": n}])
    assert await isolation.collection(ACME, "notes").find({"_id": "same"}) == [{"_id": "same", "n": 1}]
    await isolation.collection(ACME, "notes").delete_many({"_id": "same"})
    assert await isolation.collection(GLOBEX, "notes").find({}) == [{"_id": "same", "n": 2}]


async def test_a_transaction_is_one_tenants() -> None:
    """RE-3: what is scoped outside of a transaction is scoped inside, and undone as a whole."""
    isolation = Isolation(MemoryStore())

    async def work() -> None:
        await isolation.collection(ACME, "notes").insert([{"_id": "one"}])
        assert await isolation.collection(GLOBEX, "notes").count({}) == 0
        raise BadRequest

    with pytest.raises(BadRequest):
        await isolation.transaction(ACME, work)
    assert await isolation.collection(ACME, "notes").count({}) == 0


@pytest.mark.parametrize(
    "query",
    [
        {"$where": "true"},
        {"$expr": {"$eq": [1, 1]}},
        {"n": {"$function": {}}},
        {"n": {"$regex": "(a+)+$"}},
        {"$or": [{"n": {"$where": "1"}}]},
        {"$lookup": {"from": "users"}},
        {"$jsonSchema": {}},
        {"n": {"$not": {"$gt": 1}}},
    ],
)
async def test_operators_of_clients_are_a_list_of_allowed_ones(query: dict[str, Any]) -> None:
    """RE-6."""
    service = MemoryService(ServiceOptions("notes"))
    with pytest.raises(BadRequest):
        await service.find(Params(tenant=ACME, query=query, provider="rest"))


def test_who_reaches_a_database_otherwise_is_known_with_a_reason() -> None:
    """RE-7: a new module that touches a driver's client or a raw database fails here, until it has a reason."""
    root = Path(services.__file__).parents[1]
    found = set()
    for file in [*root.glob("services/**/*.py"), *root.glob("server/**/*.py")]:
        names = {node.attr for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Attribute)}
        if names & {"client", "raw"}:
            found.add(str(file.relative_to(root)))
    unknown = {file for file in found if not any(file == place or file.startswith(f"{place}/") for place in UNSCOPED)}
    assert unknown == set()
    for place in UNSCOPED:
        assert any(file == place or file.startswith(f"{place}/") for file in found), f"{place} needs no reason any more"
