"""Application.call is the one path: it finds the service, runs the hooks, and tells of the event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from hooks.context import HookContext, Params, Record
from hooks.errors import BadRequest, Conflict, MethodNotAllowed, NotAuthenticated, NotFound
from hooks.projection import project
from hooks.tenant import Tenant
from services.application import Application, Event, answer
from services.base import Service

ACME, GLOBEX = Tenant("acme", "Acme"), Tenant("globex", "Globex")


class Recorder(Service):
    """Answers with what it was called with."""

    async def find(self, params: Params) -> list[Record]:
        return [{"route": dict(params.route)}]

    async def get(self, id: Any, params: Params) -> Record:
        return {"id": id}

    async def create(self, data: Any, params: Params) -> Any:
        return data

    async def patch(self, id: Any, data: Any, params: Params) -> Any:
        return [{"id": id, **data}, {"id": "other", **data}]

    async def remove(self, id: Any, params: Params) -> Any:
        if id == "none":
            raise NotFound()
        return [] if id is None else {"id": id}

    async def shout(self, data: Any, params: Params) -> str:
        return str(data).upper()

    async def whisper(self, data: Any, params: Params) -> str:
        return str(data).lower()


class Heard:
    """Keeps the events that would be delivered."""

    def __init__(self, app: Application) -> None:
        self.events: list[Event] = []
        app.deliver = self.events.append

    @property
    def told(self) -> list[tuple[str, Any]]:
        return [(f"{event.registration.path} {event.name}", event.record) for event in self.events]


@pytest.fixture
def app() -> Application:
    app = Application()
    methods = ("find", "get", "create", "patch", "remove", "shout")
    app.use("/notes/", Recorder(), methods=methods, rules="public")
    app.use("rooms/:room/notes", Recorder(), rules="public")
    declared = {"plans": app.register("plans", Recorder(), rules="public")}
    app.declared = lambda tenant: declared if tenant is ACME else {}
    return app


def outside(tenant: Tenant = ACME, **more: Any) -> Params:
    return Params(tenant=tenant, provider="socketio", **more)


FOUND: list[tuple[str, str, Mapping[str, str]]] = [
    ("notes", "notes", {}),
    ("/notes", "notes", {}),
    ("notes/", "notes", {}),
    ("//notes//", "notes", {}),
    ("notes/7", "notes", {"__id": "7"}),
    ("plans", "plans", {}),
    ("plans/7", "plans", {"__id": "7"}),
    ("rooms/9/notes", "rooms/:room/notes", {"room": "9"}),
    ("rooms/9/notes/7", "rooms/:room/notes", {"room": "9", "__id": "7"}),
]


@pytest.mark.parametrize(("path", "service", "route"), FOUND, ids=[path for path, _, _ in FOUND])
def test_paths_lead_to_services(app: Application, path: str, service: str, route: Mapping[str, str]) -> None:
    registration, found = app.lookup(ACME, path)
    assert (registration.path, found) == (service, route)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "none",
        "Notes",
        "notes/7/8",
        "constructor",
        "__proto__",
        "rooms/9",
        "rooms//notes",
        "rooms/9/notes/7/8",
        "../notes",
        None,
        5,
        ["notes"],
        {},
    ],
)
def test_other_paths_lead_nowhere(app: Application, path: Any) -> None:
    with pytest.raises(NotFound):
        app.lookup(ACME, path)


def test_a_declared_service_is_its_tenants_alone(app: Application) -> None:
    with pytest.raises(NotFound):
        app.lookup(GLOBEX, "plans")


def test_a_path_is_taken_once(app: Application) -> None:
    for path in ("notes", "/notes/", "", "/"):
        with pytest.raises(ValueError, match="taken"):
            app.use(path, Recorder())


async def test_only_offered_methods_are_called_from_outside(app: Application) -> None:
    assert (await app.call("notes", "shout", outside(), data="a")).result == "A"
    for method in ("whisper", "update", "setup", "__init__", "id", "nothing", ""):
        with pytest.raises(MethodNotAllowed, match="not allowed on service 'notes'"):
            await app.call("notes", method, outside())


async def test_from_inside_all_standard_methods_are_called(app: Application) -> None:
    app.use("quiet", Recorder(), methods=("find",), rules="nobody")
    assert (await app.call("quiet", "get", Params(tenant=ACME), id="7")).result == {"id": "7"}
    with pytest.raises(MethodNotAllowed):
        await app.call("quiet", "find", outside())
    with pytest.raises(MethodNotAllowed):
        await app.call("quiet", "whisper", Params(tenant=ACME), data="x")


async def test_each_writing_method_has_its_event_and_no_other_has(app: Application) -> None:
    heard = Heard(app)
    await app.call("notes", "find", outside())
    await app.call("notes", "get", outside(), id="7")
    await app.call("notes", "shout", outside(), data="x")
    assert heard.told == []
    await app.call("notes", "create", outside(), data={"a": 1})
    await app.call("notes", "create", outside(), data=[{"a": 1}, {"a": 2}])
    await app.call("notes", "patch", outside(), id="7", data={"a": 3})
    await app.call("notes", "remove", outside(), id="7")
    await app.call("notes", "remove", outside(), id=None)
    with pytest.raises(NotFound):
        await app.call("notes", "remove", outside(), id="none")
    assert heard.told == [
        ("notes created", {"a": 1}),
        ("notes created", {"a": 1}),
        ("notes created", {"a": 2}),
        ("notes patched", {"id": "7", "a": 3}),
        ("notes patched", {"id": "other", "a": 3}),
        ("notes removed", {"id": "7"}),
    ]
    assert all(event.tenant is ACME for event in heard.events)


async def test_hooks_choose_what_leaves_and_whether_it_is_told(app: Application) -> None:
    heard = Heard(app)

    def hide(context: HookContext) -> None:
        context.dispatch = {"shown": True}

    def hush(context: HookContext) -> None:
        context.event = None

    app.use("shown", Recorder(), rules="public", hooks={"after": {"all": [hide]}})
    app.use("hushed", Recorder(), rules="public", hooks={"before": {"all": [hush]}})
    context = await app.call("shown", "create", outside(), data={"secret": 1})
    assert (context.result, context.outcome) == ({"secret": 1}, {"shown": True})
    await app.call("hushed", "create", outside(), data={})
    assert heard.told == [("shown created", {"shown": True})]


async def test_the_event_comes_after_all_hooks(app: Application) -> None:
    order: list[str] = []
    app.deliver = lambda event: order.append("event")
    app.hooks({"after": {"all": [lambda context: order.append("after")]}})
    app.hooks([_around(order)])
    await app.call("notes", "create", outside(), data={})
    assert order == ["in", "after", "out", "event"]


def _around(order: list[str]) -> Any:
    async def around(context: HookContext, next: Any) -> None:
        order.append("in")
        await next()
        order.append("out")

    return around


async def test_a_failing_listener_costs_its_event_and_not_the_call(app: Application) -> None:
    def fail(record: Any, context: HookContext) -> None:
        raise Conflict("nobody must see this")

    app.service("notes").on("created", fail)
    assert (await app.call("notes", "create", outside(), data={"a": 1})).result == {"a": 1}


async def test_listeners_hear_before_subscribers(app: Application) -> None:
    order: list[str] = []
    app.deliver = lambda event: order.append("subscriber")

    async def listen(record: Any, context: HookContext) -> None:
        order.append(f"listener {record['a']}")

    app.service("notes").on("created", listen)
    await app.call("notes", "create", outside(), data={"a": 1})
    assert order == ["listener 1", "subscriber"]


async def test_without_an_authenticator_no_token_is_good(app: Application) -> None:
    with pytest.raises(NotAuthenticated):
        await app.authenticate(outside(token="x"))


def test_a_service_that_is_not_there_is_told() -> None:
    with pytest.raises(LookupError, match="Can not find service 'none'"):
        Application().service("none")


RECORD = {"_id": 1, "a": {"b": 1, "c": [{"d": 1, "e": 2}, {"d": 3}]}, "f": None}
SELECTED: list[tuple[Any, Any]] = [
    (["a"], {"_id": 1, "a": RECORD["a"]}),
    ("f", {"_id": 1, "f": None}),
    (["a.b"], {"_id": 1, "a": {"b": 1}}),
    (["a.c.d"], {"_id": 1, "a": {"c": [{"d": 1}, {"d": 3}]}}),
    (["a.b", "a.c.e"], {"_id": 1, "a": {"b": 1, "c": [{"e": 2}, {}]}}),
    (["none", "f.g"], {"_id": 1, "f": None}),
    ([], {"_id": 1}),
    (5, RECORD),
    ({"a": 1}, RECORD),
    ([5], RECORD),
    (None, RECORD),
]


@pytest.mark.parametrize(("select", "expected"), SELECTED, ids=[repr(select) for select, _ in SELECTED])
def test_answers_of_writing_methods_are_cut_to_the_selection(app: Application, select: Any, expected: Any) -> None:
    def context(method: str, result: Any) -> HookContext:
        params = outside(query={"$select": select})
        return HookContext(app=app, service=Recorder(), path="notes", method=method, params=params, result=result)

    assert answer(context("create", RECORD)) == expected
    assert answer(context("patch", [RECORD, RECORD])) == [expected, expected]
    assert answer(context("find", [RECORD])) == [RECORD]


def test_only_records_are_projected() -> None:
    assert project("text", ["a"]) == "text"
    assert project(None, ["a"]) is None


async def test_an_error_of_a_hook_is_no_event(app: Application) -> None:
    heard = Heard(app)

    def refuse(context: HookContext) -> None:
        raise BadRequest()

    app.hooks({"after": {"create": [refuse]}})
    with pytest.raises(BadRequest):
        await app.call("notes", "create", outside(), data={})
    assert heard.told == []


async def test_hooks_of_the_application_reach_services_that_are_already_there(app: Application) -> None:
    await app.call("notes", "find", outside())
    app.hooks({"before": {"find": [lambda context: context.params.query.update(seen=True)]}})
    params = outside()
    await app.call("notes", "find", params)
    assert params.query == {"seen": True}
