"""The mutation test: each guard is taken away in turn. The probe that belongs to it then fails, which proves that the probe
bites; and nothing of the north reaches the south as long as any other guard stands (ARCHITECTURE rule 3)."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from hooks.context import HookContext
from hooks.errors import FeathersError
from hooks.tenancy import enforce_app_id, inject_app_id
from server import main
from server.main import Roost
from services import isolation
from services.isolation import Isolation, normalise_id
from services.store import Collection
from tests.security.apps import ALIKE, CANARY, NORTH, SOUTH, stored
from tests.support.client import CallError, Client, Rest, connect, outcome, rest
from tests.support.placed import database_of
from tests.support.roost import start_roost
from tests.support.tripwire import Tripwire

# ------------------------------------------------------------------------------------------------- taking guards away


def without_enforce(patch: pytest.MonkeyPatch) -> None:
    """The hook that forces the tenant on every query."""
    _without_hook(patch, enforce_app_id)


def without_inject(patch: pytest.MonkeyPatch) -> None:
    """The hook that refuses and stamps the tenant in data."""
    _without_hook(patch, inject_app_id)


def _without_hook(patch: pytest.MonkeyPatch, hook: Any) -> None:
    befores = main.TENANCY_HOOKS["before"]
    kept = {method: [one for one in hooks if one is not hook] for method, hooks in befores.items()}
    assert kept != befores
    patch.setattr(main, "TENANCY_HOOKS", {**main.TENANCY_HOOKS, "before": kept})


def without_scope(patch: pytest.MonkeyPatch) -> None:
    """The mandatory filter: ids are looked up as they come, whoever has them."""
    patch.setattr(isolation, "scope", lambda filter, tenant_id: _plain(filter))


def _plain(filter: Any) -> Any:
    plain: dict[str, Any] = {}
    for key, value in filter.items():
        if key in ("$and", "$or"):
            plain[key] = [_plain(branch) for branch in value]
        elif key == "_id":
            plain["_id.i"] = _plain_id(value)
        else:
            plain[key] = value
    return plain


def _plain_id(value: Any) -> Any:
    if isinstance(value, dict):
        return {operator: _plain_id(operand) for operator, operand in value.items()}
    return [_plain_id(item) for item in value] if isinstance(value, list) else normalise_id(value)


def without_check_of_results(patch: pytest.MonkeyPatch) -> None:
    """The last look at what the database answered."""

    def trusting(document: Any, tenant_id: str) -> Any:
        document["_id"] = document["_id"]["i"]
        document.pop("app_id", None)
        return document

    patch.setattr(isolation, "from_store", trusting)


def without_stamp(patch: pytest.MonkeyPatch) -> None:
    """The tenant in what is stored: as if the isolation forgot it."""
    bound = isolation.to_store

    def unstamped(record: Any, tenant_id: str) -> Any:
        return {key: value for key, value in bound(record, tenant_id).items() if key != "app_id"}

    patch.setattr(isolation, "to_store", unstamped)


def with_foreign_stamp(patch: pytest.MonkeyPatch) -> None:
    """The same, as if it mixed up two tenants."""
    bound = isolation.to_store
    patch.setattr(isolation, "to_store", lambda record, tenant_id: {**bound(record, tenant_id), "app_id": NORTH})


Removal = Callable[[pytest.MonkeyPatch], None]
BESIDE_OTHERS = pytest.mark.shared_only(
    "without the mandatory filter an app still finds nobody else's records in a database of its own"
)


# ------------------------------------------------------------------------------------------------------------ probing


@dataclass
class Scene:
    """The south at work beside the north, which has one record with a canary in it."""

    roost: Roost
    tripwire: Tripwire
    north: Client
    south: Client
    http: Rest
    record: dict[str, Any]
    seen: list[str] = field(default_factory=list)

    async def ask(self, method: str, path: str, *arguments: Any) -> Any:
        """What the south is answered; it is kept in `seen`."""
        answer = await outcome(self.south, method, path, *arguments)
        self.seen.append(json.dumps(answer.wire if isinstance(answer, CallError) else answer))
        return answer


@asynccontextmanager
async def scene(uri: str, *removals: Removal, patch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """Starts a server without the guards."""
    for remove in removals:
        remove(patch)
    tripwire = Tripwire()
    with pytest.MonkeyPatch.context() as whole:
        # What the server keeps of its own is stored and found as it should be: it is not what is probed.
        for name, function in _WHOLE.items():
            whole.setattr(isolation, name, function)
        roost = await start_roost(uri, ALIKE, tripwire=tripwire)
    try:
        async with connect(roost, NORTH) as north, connect(roost, SOUTH) as south, rest(roost, SOUTH) as http:
            with pytest.MonkeyPatch.context() as whole:
                # The record to be kept is stored as it should be, whatever is broken afterwards.
                whole.setattr(isolation, "to_store", _TO_STORE)
                record = await north.call("create", "notes", {"text": CANARY, "n": 1}, {})
            await north.take_events()
            yield Scene(roost, tripwire, north, south, http, record)
    finally:
        await roost.drop()


_TO_STORE = isolation.to_store
_WHOLE = {"to_store": isolation.to_store, "from_store": isolation.from_store, "scope": isolation.scope}


async def reads_nothing(scene: Scene) -> bool:
    """The cross-tenant probe: by id, by query, by change, the south sees and changes nothing of the north's."""
    id = scene.record["_id"]
    for query in ({}, {"text": CANARY}, {"_id": id}, {"_id": {"$in": [id]}}, {"$or": [{"_id": id}, {"n": 1}]}):
        await scene.ask("find", "notes", query)
        await scene.ask("patch", "notes", None, {"n": 2}, query)
    for method, arguments in (("get", ()), ("patch", ({"n": 2},)), ("update", ({"n": 2},)), ("remove", ())):
        await scene.ask(method, "notes", id, *arguments, {})
    await scene.ask("remove", "notes", None, {})
    kept = await outcome(scene.north, "get", "notes", id)
    return kept == scene.record and not any(CANARY in seen for seen in scene.seen)


async def names_are_refused(scene: Scene) -> bool:
    """The probe of `enforce_app_id`: a query may not even speak of the tenant."""
    answers = [
        await scene.ask("find", "notes", {"app_id": app_id}) for app_id in (SOUTH, NORTH, {"$ne": SOUTH}, {"$gt": ""})
    ]
    return all(isinstance(answer, CallError) and answer.code == 400 for answer in answers)


async def stamps_are_refused(scene: Scene) -> bool:
    """The probe of `inject_app_id`: data may not even speak of the tenant."""
    answers = [await scene.ask("create", "notes", {"app_id": app_id}, {}) for app_id in (SOUTH, NORTH)]
    answers += [await scene.ask("create", "notes", {"x": {"app_id": SOUTH}}, {})]
    return all(isinstance(answer, CallError) and answer.code == 400 for answer in answers)


async def inner_reads_are_scoped(scene: Scene) -> bool:
    """The probe of the mandatory filter: whoever reads below all hooks still gets the own records alone."""
    tenant = scene.roost.catalogue.peek(SOUTH)
    assert tenant is not None
    collection = Isolation(scene.roost.backend.deployment, scene.roost.backend.placements).collection(tenant, "notes")
    try:
        return await collection.find({}) == [] and await collection.count({}) == 0
    except FeathersError:
        return False


async def unstamped_records_are_refused(scene: Scene) -> bool:
    """The probe of the validator: what is not bound to its tenant is not stored."""
    answer = await scene.ask("create", "notes", {"text": "where am I?"}, {})
    database = database_of(scene.roost, SOUTH)
    return isinstance(answer, CallError) and await database.notes.count_documents({"text": "where am I?"}) == 0


async def names_are_unique(scene: Scene) -> bool:
    """The probe of the unique index: ten simultaneous sign-ups of one name make one user."""
    data = {"username": "ada", "password": "secret-123"}
    answers = await asyncio.gather(*(outcome(scene.south, "create", "users", data, {}) for _ in range(10)))
    return Counter(isinstance(answer, CallError) and answer.code for answer in answers) == {False: 1, 409: 9}


Probe = Callable[[Scene], Awaitable[bool]]
PROBES: list[Probe] = [
    reads_nothing,
    names_are_refused,
    stamps_are_refused,
    inner_reads_are_scoped,
    names_are_unique,
]


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.__name__)
async def test_with_all_guards_in_place_every_probe_passes(
    mongod: str, monkeypatch: pytest.MonkeyPatch, probe: Probe
) -> None:
    async with scene(mongod, patch=monkeypatch) as here:
        assert await probe(here)
        assert here.tripwire.violations == []


@pytest.mark.parametrize(
    ("removal", "probe"),
    [
        (without_enforce, names_are_refused),
        (without_inject, stamps_are_refused),
        pytest.param(without_scope, inner_reads_are_scoped, marks=BESIDE_OTHERS),
    ],
    ids=lambda value: value.__name__,
)
async def test_without_a_guard_its_own_probe_fails_and_still_nothing_leaks(
    mongod: str, monkeypatch: pytest.MonkeyPatch, removal: Removal, probe: Probe
) -> None:
    async with scene(mongod, removal, patch=monkeypatch) as here:
        assert not await probe(here)
        assert await reads_nothing(here)


@BESIDE_OTHERS
async def test_without_both_guards_of_queries_the_third_still_hides_and_the_tripwire_bites(
    mongod: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene(mongod, without_enforce, without_scope, patch=monkeypatch) as here:
        before = len(here.tripwire.violations)
        answer = await here.ask("find", "notes", {"text": CANARY})
        assert answer.code == 500
        assert not any(CANARY in seen for seen in here.seen)
        assert len(here.tripwire.violations) > before


@BESIDE_OTHERS
async def test_without_any_guard_of_queries_the_cross_tenant_probe_fails(
    mongod: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    guards = (without_enforce, without_scope, without_check_of_results)
    async with scene(mongod, *guards, patch=monkeypatch) as here:
        assert not await reads_nothing(here)
        assert any(CANARY in seen for seen in here.seen)


@pytest.mark.parametrize("broken", [without_stamp, with_foreign_stamp], ids=lambda value: value.__name__)
async def test_the_database_refuses_what_the_code_forgets(
    mongod: str, monkeypatch: pytest.MonkeyPatch, broken: Removal
) -> None:
    async with scene(mongod, broken, patch=monkeypatch) as here:
        assert await unstamped_records_are_refused(here)
        await database_of(here.roost, SOUTH).command({"collMod": "notes", "validator": {}})
        assert not await unstamped_records_are_refused(here)


async def test_without_the_unique_index_two_users_bear_one_name(mongod: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(mongod, patch=monkeypatch) as here:
        users = database_of(here.roost, SOUTH).users
        indexes = await users.index_information()
        (name,) = [name for name, index in indexes.items() if index.get("unique") and name != "_id_"]
        assert [field for field, _ in indexes[name]["key"]] == ["app_id", "username_key"]
        await users.drop_index(name)
        assert not await names_are_unique(here)


async def test_without_the_friendly_hook_the_index_alone_keeps_names_unique(
    mongod: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def let_through(context: HookContext) -> None:
        """Any name is free."""

    def without_hook(patch: pytest.MonkeyPatch) -> None:
        patch.setattr("services.users.unique", lambda *_, **__: let_through)

    async with scene(mongod, without_hook, patch=monkeypatch) as here:
        assert await names_are_unique(here)


async def test_a_record_of_another_tenant_cannot_even_be_written_over(roosts: Any) -> None:
    """The bound `_id`: the same id in another tenant is another key of the index, so nothing collides."""
    roost: Roost = await roosts(ALIKE)
    async with connect(roost, NORTH) as north, connect(roost, SOUTH) as south:
        for client in (north, south):
            await client.call("create", "notes", {"_id": "same"}, {})
            assert (await outcome(client, "create", "notes", {"_id": "same"}, {})).code == 409
    found = [(await stored(roost, app_id))["notes"][0]["_id"] for app_id in (NORTH, SOUTH)]
    assert found == [{"a": NORTH, "i": "same"}, {"a": SOUTH, "i": "same"}]


BITES: list[tuple[str, Callable[[Any], Awaitable[Any]]]] = [
    ("find all", lambda notes: notes.find({})),
    ("find by text", lambda notes: notes.find({"text": "x"})),
    ("find by another", lambda notes: notes.find({"app_id": {"$ne": "x"}})),
    ("find in either", lambda notes: notes.find({"$or": [{"app_id": "north"}, {"app_id": "south"}]})),
    ("count", lambda notes: notes.count({})),
    ("change many", lambda notes: notes.update_many({"n": 1}, {"$set": {"n": 2}})),
    ("change one", lambda notes: notes.find_one_and_update({"n": 1}, {"$set": {"n": 2}})),
    ("replace", lambda notes: notes.find_one_and_replace({"n": 1}, {"app_id": "north", "n": 2})),
    ("delete one", lambda notes: notes.find_one_and_delete({"n": 1})),
    ("delete many", lambda notes: notes.delete_many({"n": 1})),
]


@asynccontextmanager
async def notes_of(roost: Roost, app_id: str) -> AsyncIterator[Collection]:
    """The collection in which an app's notes are, without any guard."""
    tenant = roost.catalogue.peek(app_id)
    assert tenant is not None
    async with roost.backend.placements.handle(tenant) as handle:
        yield handle.collection("notes")


@pytest.mark.parametrize("path", ["pymongo", "lean"])
async def test_the_tripwire_bites(mongod: str, path: str) -> None:
    tripwire = Tripwire()
    roost = await start_roost(mongod, ALIKE, tripwire=tripwire, mongo_path=path)
    try:
        async with notes_of(roost, NORTH) as notes:
            assert tripwire.violations == []
            for count, (name, command) in enumerate(BITES, 1):
                await command(notes)
                assert len(tripwire.violations) == count, name
            tripwire.violations.clear()
            await notes.find({"app_id": "north", "n": 1})
            await notes.find({"_id": {"a": "north", "i": "x"}})
            await notes.delete_many({"$and": [{"app_id": "north"}, {"n": 1}]})
        assert tripwire.violations == []
        assert tripwire.seen >= len(BITES) + 3
    finally:
        await roost.drop()


async def test_the_tripwire_bites_at_a_write_without_its_tenant(mongod: str) -> None:
    tripwire = Tripwire()
    roost = await start_roost(mongod, ALIKE, tripwire=tripwire)
    try:
        async with notes_of(roost, NORTH) as notes:
            with pytest.raises(FeathersError):
                await notes.insert([{"_id": {"i": "x"}, "text": "nobody's"}])
        assert len(tripwire.violations) == 1
    finally:
        await roost.drop()
