"""Plug-ins: what a module's `configure(app)` can add without a fork, from its start to its end."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from types import ModuleType
from typing import Any

import pytest

from hooks.chain import Next
from hooks.context import HookContext, Params, Record
from hooks.errors import Conflict, NotFound
from hooks.internal import Internal
from hooks.tenant import Tenant
from server.main import Roost
from services.application import Application, Storage
from services.base import Service
from services.data import DataService
from services.declaration import DeclarationError, parse
from services.memory import MemoryStore
from services.mongo import ServiceOptions
from services.query import Paginate
from services.registration import Registration
from tests.conftest import StartRoost
from tests.support.client import Event, connect, fresh, outcome, rest
from tests.support.placed import database_of, default_model
from tests.support.roost import start_roost

Configure = Callable[[Application], Awaitable[None] | None]
Install = Callable[[Configure], str]
Note = Callable[[str], Callable[..., Any]]

ACME = Tenant("acme", "Acme")
GLOBEX = Tenant("globex", "Globex")


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Makes a module of a `configure` and gives its name."""

    def make(configure: Configure) -> str:
        module = ModuleType(fresh("plugin"))
        module.configure = configure  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return module.__name__

    return make


class Echo(Service):
    """Answers with what it is asked."""

    async def find(self, params: Params) -> list[Record]:
        return [{"query": params.query}]

    async def create(self, data: Record, params: Params) -> Record:
        return {**data, "_id": "1"}

    async def ping(self, data: Any, params: Params) -> str:
        return "pong"


class Lively(Echo):
    """Writes down when it is set up and torn down."""

    def __init__(self, log: list[str], *, fails: str = "") -> None:
        self.log = log
        self.fails = fails

    async def setup(self, app: Application, path: str) -> None:
        self.log.append(f"setup {path}")
        if self.fails == "setup":
            raise RuntimeError("no room")

    def teardown(self, app: Application, path: str) -> None:
        self.log.append(f"teardown {path}")
        if self.fails == "teardown":
            raise RuntimeError("will not go")


def around_of(log: list[str], name: str) -> Callable[[Application, Next], Awaitable[None]]:
    async def around(app: Application, next: Next) -> None:
        log.append(f"> {name}")
        await next()
        log.append(f"< {name}")

    return around


# The start and the end.


async def test_services_are_set_up_in_order_and_torn_down_in_reverse() -> None:
    log: list[str] = []
    app = Application()
    app.hooks({"setup": [around_of(log, "one"), around_of(log, "two")], "teardown": [around_of(log, "end")]})
    app.use("a", Lively(log))
    app.use("plain", Echo())
    app.use("b", Lively(log, fails="teardown"))
    await app.setup()
    assert log == ["> one", "> two", "setup a", "setup b", "< two", "< one"]
    log.clear()
    await app.teardown()
    assert log == ["> end", "teardown b", "teardown a", "< end"]
    log.clear()
    await app.teardown()
    assert log == ["> end", "< end"]


async def test_a_set_up_that_fails_takes_down_what_was_set_up_and_stops_the_start() -> None:
    log: list[str] = []
    app = Application()
    app.use("a", Lively(log))
    app.use("b", Lively(log, fails="setup"))
    app.use("c", Lively(log))
    with pytest.raises(RuntimeError, match="no room"):
        await app.setup()
    assert log == ["setup a", "setup b", "teardown a"]


async def test_it_is_too_late_for_a_set_up_once_the_server_runs() -> None:
    app = Application()
    await app.setup()
    app.use("plain", Echo())
    with pytest.raises(ValueError, match="before the server starts"):
        app.use("late", Lively([]))
    assert "late" not in app.services


def test_a_hook_around_the_start_must_be_async() -> None:
    with pytest.raises(TypeError, match="setup"):
        Application().hooks({"setup": [lambda app, next: None]})  # type: ignore[list-item,return-value]


async def test_a_server_configures_and_sets_up_its_modules(mongod: str, install: Install) -> None:
    log: list[str] = []

    async def configure(app: Application) -> None:
        app.use("early", Lively(log), rules="public", methods=["find", "ping"])
        log.append("configured")

    roost = await start_roost(mongod, modules=(install(configure), install(lambda app: log.append("second"))))
    try:
        assert log == ["configured", "second", "setup early"]
        async with connect(roost, "acme") as ada:
            assert await ada.call("ping", "early", None, {}) == "pong"
    finally:
        await roost.drop()
    assert log[3:] == ["teardown early"]


async def test_a_server_whose_service_fails_to_set_up_does_not_start(roosts: StartRoost, install: Install) -> None:
    log: list[str] = []

    def configure(app: Application) -> None:
        app.use("good", Lively(log))
        app.use("bad", Lively(log, fails="setup"))

    with pytest.raises(RuntimeError, match="no room"):
        await roosts(modules=(install(configure),))
    assert log == ["setup good", "setup bad", "teardown good"]


# Hooks.


async def test_hooks_of_all_kinds_run_in_feathers_order_and_later_ones_behind() -> None:
    log: list[str] = []

    def step(name: str) -> Callable[[HookContext], None]:
        return lambda context: log.append(name)

    def around(name: str) -> Callable[[HookContext, Next], Awaitable[None]]:
        async def run(context: HookContext, next: Next) -> None:
            log.append(f"> {name}")
            await next()
            log.append(f"< {name}")

        return run

    app = Application()
    service = app.use(
        "echo",
        Echo(),
        rules="public",
        hooks={
            "around": {"all": [around("service")], "create": [around("method")]},
            "before": {"all": [step("before all")], "create": [step("before create")]},
            "after": {"all": [step("after all")], "create": [step("after create")]},
            "error": {"all": [step("error all")]},
        },
    )
    app.hooks({"around": [around("app")], "before": [step("app before")]})
    params = Params(tenant=ACME)
    expected = [
        *("> app", "app before", "> service", "> method", "before all", "before create"),
        *("after all", "after create", "< method", "< service", "< app"),
    ]
    await app.call("echo", "create", params, data={})
    assert log == expected
    log.clear()
    app.service("echo").add_hooks({"before": {"create": [step("late")]}})
    app.hooks([around("late app")])
    await app.call("echo", "create", Params(tenant=ACME), data={})
    assert log == [
        *("> app", "> late app", "app before", "> service", "> method", "before all", "before create", "late"),
        *("after all", "after create", "< method", "< service", "< late app", "< app"),
    ]
    log.clear()
    service.add_hooks({"before": {"create": [_refuse]}})
    with pytest.raises(Conflict):
        await app.call("echo", "create", Params(tenant=ACME), data={})
    assert "error all" in log
    with pytest.raises(ValueError, match="nope"):
        service.add_hooks({"before": {"nope": [step("never")]}})
    with pytest.raises(TypeError):
        service.add_hooks({"before": ["no hook"]})  # type: ignore[list-item]


def _refuse(context: HookContext) -> None:
    raise Conflict("Not now")


# Internal calls.


@pytest.fixture
async def people() -> AsyncIterator[Application]:
    """An application with records in memory."""
    app = Application()
    app.storage = Storage(MemoryStore())
    options = ServiceOptions("people", paginate=Paginate(2, 5), multi=frozenset({"create", "patch", "remove"}))
    app.use("people", DataService(app, options), rules="nobody")
    app.use("echo", Echo(), rules="nobody", methods=["ping"])
    await app.setup()
    yield app
    await app.teardown()


async def test_internal_calls_stay_in_their_tenant_and_answer_with_records(people: Application) -> None:
    acme, globex = (Internal(people, Params(tenant=tenant, provider="rest")) for tenant in (ACME, GLOBEX))
    ada = await acme.create("people", {"_id": "ada", "n": 1})
    assert ada == {"_id": "ada", "n": 1}
    assert [one["n"] for one in await acme.create("people", [{"n": 2}, {"n": 3}])] == [2, 3]
    assert [one["n"] for one in await acme.find("people", {"$sort": {"n": -1}})] == [3, 2]
    assert await acme.find("people", {"n": 9}) == []
    assert (await acme.get("people", "ada"))["n"] == 1
    assert await acme.patch("people", "ada", {"m": 1}) == {"_id": "ada", "n": 1, "m": 1}
    assert await acme.update("people", "ada", {"n": 7}) == {"_id": "ada", "n": 7}
    assert len(await acme.patch("people", None, {"seen": True}, {"n": {"$gt": 2}})) == 2
    assert await globex.find("people") == []
    with pytest.raises(NotFound):
        await globex.get("people", "ada")
    assert await acme.remove("people", "ada") == {"_id": "ada", "n": 7, "seen": True}
    assert len(await acme.remove("people", None)) == 2
    assert await acme.call("echo", "ping") == "pong"


async def test_internal_calls_know_the_user_and_are_trusted(people: Application) -> None:
    seen: list[Any] = []
    people.service("people").add_hooks(
        {"before": {"find": [lambda context: seen.append((context.params.user, context.params.provider))]}}
    )
    params = Params(tenant=ACME, user={"_id": "ada"}, provider="socketio", query={"n": 1})
    await Internal(people, params).find("people")
    assert seen == [({"_id": "ada"}, None)]
    assert params.query == {"n": 1}


# Records of one's own.


async def test_a_plugins_collection_is_guarded_and_indexed_at_the_start(roosts: StartRoost, install: Install) -> None:
    def configure(app: Application) -> None:
        options = ServiceOptions("tickets", id="number", multi=frozenset({"create"}))
        tickets = DataService(app, options, indexes=["room", ["room", "-at"]], unique=[["room", "seat"]])
        app.use("tickets", tickets, rules={"default": "public"})

    roost = await roosts(modules=(install(configure),))
    if default_model[0] != "shared":
        # A database of an app's own gets it when it is first used.
        async with rest(roost, "acme") as client:
            assert await client.call("find", "tickets") == []
    collection = database_of(roost)["plugin.tickets"]
    keys = [[*map(tuple, index["key"])] for index in (await collection.index_information()).values()]
    assert [("app_id", 1), ("room", 1)] in keys
    assert [("app_id", 1), ("room", 1), ("at", -1)] in keys
    assert "validator" in await collection.options()

    async with connect(roost, "acme") as ada, rest(roost, "globex") as eve:
        made = await ada.call("create", "tickets", {"number": "A1", "room": "r", "seat": 1}, {})
        assert made["number"] == "A1"
        assert await ada.next_event() == Event("tickets created", (made,))
        for clash in ({"number": "A1"}, {"room": "r", "seat": 1}):
            assert (await outcome(ada, "create", "tickets", clash, {})).code == 409
        assert (await outcome(eve, "get", "tickets", "A1")).code == 404
        assert (await eve.call("create", "tickets", {"number": "A1", "room": "r", "seat": 1}))["number"] == "A1"
        assert await ada.call("find", "tickets", {}) == [made]
        await ada.quiet()


async def test_no_app_can_declare_a_service_over_a_plugins_collection(roosts: StartRoost, install: Install) -> None:
    def configure(app: Application) -> None:
        app.use("kept", DataService(app, ServiceOptions("kept")), rules="nobody")

    with pytest.raises(DeclarationError, match="collection"):
        parse("tenants: [{id: acme, services: {notes: {collection: plugin.kept}}}]")
    declared = "tenants: [{id: acme, services: {others: {collection: kept, rules: {default: public}}}}]"
    roost = await roosts(declared, modules=(install(configure),))
    await Internal(roost.app, Params(tenant=await _tenant(roost, "acme"))).create("kept", {"secret": 1})
    async with rest(roost, "acme") as client:
        assert (await client.call("find", "others"))["data"] == []


def test_records_need_a_place() -> None:
    with pytest.raises(LookupError, match="storage"):
        DataService(Application(), ServiceOptions("notes"))


# Events of one's own.


async def test_a_custom_event_reaches_the_tenants_own_channels_alone(roosts: StartRoost, install: Install) -> None:
    found: list[Registration] = []

    def configure(app: Application) -> None:
        found.append(app.use("machine", Echo(), rules="public", events=["status"]))

    roost = await roosts(modules=(install(configure),))
    (machine,) = found
    heard: list[tuple[Any, str]] = []
    machine.on("status", lambda record, context: heard.append((record, context.tenant.id)))
    tenant = await _tenant(roost, "acme")
    async with connect(roost, "acme") as ada, connect(roost, "globex") as eve:
        await machine.emit("status", {"ok": True}, tenant=tenant)
        assert await ada.next_event() == Event("machine status", ({"ok": True},))
        await ada.quiet()
        await eve.quiet()
        with pytest.raises(ValueError, match="events"):
            await machine.emit("other", {}, tenant=tenant)
    assert heard == [({"ok": True}, "acme")]


async def test_a_module_calls_declared_services_of_the_same_app(roosts: StartRoost, install: Install) -> None:
    class Summary(Service):
        """Counts the notes of the app that asks."""

        async def setup(self, app: Application, path: str) -> None:
            self.app = app

        async def find(self, params: Params) -> list[Record]:
            notes = await Internal(self.app, params).find("notes")
            return [{"_id": "all", "texts": sorted(note["text"] for note in notes)}]

    roost = await roosts(modules=(install(lambda app: void(app.use("summary", Summary(), rules="public"))),))
    async with connect(roost, "acme") as ada, connect(roost, "globex") as eve:
        await ada.call("create", "notes", [{"text": "one"}, {"text": "two"}], {})
        assert await ada.call("find", "summary", {}) == [{"_id": "all", "texts": ["one", "two"]}]
        assert await eve.call("find", "summary", {}) == [{"_id": "all", "texts": []}]


def void(_: object) -> None:
    """Gives nothing back, for a lambda that configures."""


async def _tenant(roost: Roost, id: str) -> Tenant:
    tenant = await roost.catalogue.get(id)
    assert tenant is not None
    return tenant
