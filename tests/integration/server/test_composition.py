"""`app.multi_tenancy(...)`: the parts for several tenants in one call (TENANCY CO-1, CO-2, CO-4, CO-5)."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any, get_type_hints

import aiohttp
import pytest

from hooks.context import HookContext
from hooks.errors import BadRequest
from hooks.tenant import Placement
from server.backend import StartError
from server.composition import PARTS
from server.main import Roost
from server.settings import SyncSettings
from services.application import Application
from services.composition import ALIASES, CompositionError, MultiTenancy
from services.entities.registry import CLIENTS
from services.tenant_hooks import Data, TenantCall
from tests.conftest import StartRoost
from tests.integration.control.managers import call_as, declared
from tests.support.client import rest, until
from tests.support.placed import database_of, default_model
from tests.support.roost import ADMIN, CONTROL_PLANE

Plugin = Callable[[Callable[[Application], None]], str]


@pytest.fixture
def plugin() -> Iterator[Plugin]:
    """Makes a module of a function `configure`; its name."""
    made: list[str] = []

    def make(configure: Callable[[Application], None]) -> str:
        name = f"composed_{len(made)}"
        module = ModuleType(name)
        module.__dict__["configure"] = configure
        sys.modules[name] = module
        made.append(name)
        return name

    yield make
    for name in made:
        del sys.modules[name]


def composing(**options: Any) -> Callable[[Application], None]:
    return lambda app: app.multi_tenancy(**options)


async def test_one_call_composes_the_parts(roosts: StartRoost, plugin: Plugin) -> None:
    """CO-1, CO-4: hooks in their order, entity hooks behind the built-in ones, a placement, what is granted and inherited."""
    seen: list[Any] = []

    async def first(call: TenantCall, data: Data) -> Data:
        return {**data, "name": f"{data['name']} one"}

    async def second(call: TenantCall, data: Data) -> Data:
        return {**data, "name": f"{data['name']} two"}

    async def place(call: TenantCall, data: Data) -> str | None:
        seen.append(data["name"])
        return "database" if data["id"] == "regulated" else None

    def one(context: HookContext) -> dict[str, Any]:
        seen.append(sorted(context.data))
        return {"data": {**context.data, "description": "one"}}

    async def two(context: HookContext) -> None:
        context.data["description"] += " two"

    def logged(context: HookContext) -> None:
        seen.append("login")

    def configure(app: Application) -> None:
        app.service("authentication").add_hooks({"after": {"create": [logged]}})
        app.multi_tenancy(
            control_plane=CONTROL_PLANE,
            sync=True,
            require_organization_match=True,
            default_permissions=["read:roles"],
            get_placement=place,
            hooks={"before_create": [first, second]},
            entity_hooks={"roles": {"before": {"create": [one, two]}}},
            inheritance=False,
            subdomains={"base_hosts": ["roost.test", "127.0.0.1"], "resolver": resolve},
        )

    async def resolve(label: str | None, host: str) -> str | None:
        return None if label is None else {"a": "acme"}.get(label)

    roost = await roosts(modules=(plugin(configure),), base_hosts=("roost.test", "127.0.0.1"))
    lifecycle = roost.backend.control.lifecycle
    seen.clear()
    await lifecycle.create(declared("initech", name="Initech"))
    await lifecycle.create(declared("regulated", name="R"))
    assert seen == ["Initech one two", "R one two"]
    usual, own = [await roost.backend.tenants.get(id) for id in ("initech", "regulated")]
    assert usual is not None
    assert own is not None
    assert (usual.name, usual.placement.model) == ("Initech one two", default_model[0])
    assert own.placement == Placement("database", "default", own.placement.database), "wherever the others are"
    seen.clear()
    claims = {"sub": "u", "app_id": CONTROL_PLANE, "tid": CONTROL_PLANE}
    role = await call_as(roost, "create", "roles", claims, ["create:roles", "read:roles"], data={"name": "clerk"})
    assert role["description"] == "one two"
    assert seen == [["app_id", "name"]]
    with pytest.raises(BadRequest):
        await call_as(roost, "create", "roles", claims, ["create:roles", "read:roles"], data={"name": 5})
    assert len(seen) == 1, "the built-in hooks have refused it before"
    assert await granted(roost) == ["read:roles"]
    assert not (await inherits(roost))
    async with rest(roost, "acme") as client:
        await client.sign_up("ada")
        answer = await client.request("GET", "/notes", headers={"Host": "a.roost.test"})
        assert answer.status == 200
    assert "login" in seen


async def test_sync_and_base_hosts_hold_where_no_setting_says_otherwise(roosts: StartRoost, plugin: Plugin) -> None:
    """CO-1, CO-5: an option that is accepted has its effect: copies come or do not, a host means an app."""
    composed = composing(sync={"roles": False}, subdomains={"base_hosts": ["roost.test", "127.0.0.1"]})
    roost = await roosts(modules=(plugin(composed),))
    assert [roost.backend.sync.switches.has(name) for name in ("roles", "role_permissions", "connections")] == [
        False,
        False,
        True,
    ]
    plane = roost.catalogue.peek(CONTROL_PLANE)
    assert plane is not None
    claims = {"sub": "u", "app_id": CONTROL_PLANE, "tid": CONTROL_PLANE}
    rights = ["create:roles", "create:resource_servers"]
    await call_as(roost, "create", "roles", claims, rights, data={"name": "stays"})
    await call_as(roost, "create", "resource-servers", claims, rights, data={"identifier": "urn:travels"})
    data = database_of(roost)

    async def has_come() -> bool:
        count: int = await data["resource_servers"].count_documents({"app_id": "acme", "identifier": "urn:travels"})
        return count == 1

    await until(has_come)
    assert await data["roles"].count_documents({"app_id": "acme"}) == 0
    async with rest(roost, None) as client:
        for host, status in (("acme.roost.test", 200), ("nobody.roost.test", 404), ("elsewhere.test", 404)):
            assert (await client.request("GET", "/notes", headers={"Host": host})).status == status


async def test_the_control_plane_s_own_client_is_there_from_the_first_start(roosts: StartRoost, plugin: Plugin) -> None:
    """CO-1: `client_id` is made once, is the one by which a front end comes to `/oauth/authorize`, and is its owners' then."""
    module = plugin(composing(control_plane={"app_id": CONTROL_PLANE, "client_id": "admin-page"}))
    roost = await roosts(modules=(module,))
    plane = roost.catalogue.peek(CONTROL_PLANE)
    assert plane is not None
    callback = "https://admin.example/back"
    async with rest(roost, CONTROL_PLANE) as http:
        await http.login(*ADMIN)
        assert (await http.call("get", "clients", "admin-page"))["name"] == "admin-page"
        path = f"/oauth/authorize?client_id=admin-page&redirect_uri={callback}&prompt=none&response_type=code"
        assert (await http.request("GET", path)).status == 400
        await http.call("patch", "clients", "admin-page", {"callbacks": [callback], "name": "Admins"})
        known = await http.request("GET", path)
        assert (known.status, known.headers["Location"].split("?")[0]) == (303, callback)
    again = await Roost.start(roost.settings.model_copy(update={"port": 0}))
    try:
        found = await again.people.entities.find(plane, CLIENTS, {})
        assert [(one["_id"], one["name"], one["callbacks"]) for one in found] == [("admin-page", "admins", [callback])]
    finally:
        await again.stop()
    other = roost.settings.model_copy(
        update={"port": 0, "modules": (plugin(composing(control_plane={"client_id": "admins"})),)}
    )
    with pytest.raises(StartError, match="client_id"):
        await Roost.start(other)


async def test_extensions_run_beside_the_server(roosts: StartRoost, plugin: Plugin) -> None:
    """CO-1: they get the parts when these have started, before anybody is served, and end in the other order."""
    told: list[str] = []
    holder: list[Roost] = []

    @asynccontextmanager
    async def first(app: Application) -> AsyncIterator[None]:
        assert app.jobs is not None
        assert app.setting_values is not None
        assert app.service("users") is not None
        told.append("first begins")
        yield
        told.append("first ends")

    async def second(app: Application) -> None:
        told.append("second")

    @asynccontextmanager
    async def third(app: Application) -> AsyncIterator[None]:
        told.append("third begins")
        yield
        async with aiohttp.ClientSession() as session:
            try:
                await session.get(f"{holder[0].url}/health")
            except aiohttp.ClientConnectionError:
                told.append("third ends, and nobody is served any more")

    roost = await roosts(modules=(plugin(composing(extensions=[first, second, third])),))
    holder.append(roost)
    assert told == ["first begins", "second", "third begins"]
    await roost.stop()
    assert told[3:] == ["third ends, and nobody is served any more", "first ends"]


async def test_an_extension_that_fails_ends_those_before_it(roosts: StartRoost, plugin: Plugin) -> None:
    """CO-1, CO-5: the start stops, and nothing of it is left running."""
    told: list[str] = []

    @asynccontextmanager
    async def first(app: Application) -> AsyncIterator[None]:
        try:
            yield
        finally:
            told.append("first ends")

    async def broken(app: Application) -> None:
        raise LookupError("no such exchange")

    roost = await roosts()
    settings = roost.settings.model_copy(
        update={"port": 0, "modules": (plugin(composing(extensions=[first, broken])),)}
    )
    with pytest.raises(StartError, match=r"broken: no such exchange"):
        await Roost.start(settings)
    assert told == ["first ends"]


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ({"model": "database", "cluster": "nowhere"}, "There is no cluster 'nowhere': there are default"),
        ("elsewhere", "There is no isolation model 'elsewhere'"),
    ],
    ids=str,
)
async def test_an_app_is_not_made_where_there_is_no_place(
    roosts: StartRoost, plugin: Plugin, place: Any, sentence: str
) -> None:
    """CO-1, CO-5, DB-3: what `get_placement` or a declaration names that there is not is refused before anything is kept."""

    async def choose(call: TenantCall, data: Data) -> Any:
        return place if call.app_id == "initech" else None

    roost = await roosts(modules=(plugin(composing(get_placement=choose)),))
    lifecycle = roost.backend.control.lifecycle
    with pytest.raises(BadRequest) as refused:
        await lifecycle.create(declared("initech"))
    assert sentence in f"{refused.value.message} {refused.value.errors}"
    assert await roost.backend.tenants.get("initech") is None
    if isinstance(place, dict):
        with pytest.raises(BadRequest, match="no cluster"):
            await lifecycle.create(declared("hooli", placement=place))
    assert (await lifecycle.create(declared("hooli"))).state == "succeeded"


async def granted(roost: Roost) -> list[str]:
    """What the role `tenant-admin` holds."""
    data = roost.backend.deployment.client[roost.settings.database]["role_permissions"]
    return [one["permission"] async for one in data.find({"app_id": CONTROL_PLANE})]


async def inherits(roost: Roost) -> bool:
    """Whether an app inherits settings of the control plane."""
    acme, plane = [await roost.backend.tenants.get(id) for id in ("acme", CONTROL_PLANE)]
    assert acme is not None
    assert plane is not None
    return roost.backend.inheritance.effective.selection(acme, plane).inherit


async def nothing(*arguments: Any) -> None: ...


REFUSED: tuple[tuple[dict[str, Any], dict[str, Any], str], ...] = (
    ({"placement": 1}, {}, "'placement' is no option of multi_tenancy: there are control_plane, "),
    ({"extensions": {}}, {}, "must be a list of functions"),
    ({"extensions": [5]}, {}, "must be a list of functions"),
    ({"extensions": [lambda app: 5]}, {}, "must be async"),
    ({"extensions": [lambda app: 1 / 0]}, {}, "division by zero"),
    ({"control_plane": {"app_id": "other"}}, {}, "ROOST_CONTROL_PLANE is 'control_plane', not 'other'"),
    ({"control_plane": {"client": "x"}}, {}, "'client' is unknown: there are app_id and client_id"),
    ({"control_plane": {"client_id": "Admin Page"}}, {}, "client_id must be"),
    ({"control_plane": "other"}, {}, "ROOST_CONTROL_PLANE is 'control_plane', not 'other'"),
    ({"sync": False}, {"sync": SyncSettings.model_validate({})}, "ROOST_SYNC has resource_servers on"),
    ({"sync": {"roles": False, "role_permissions": True}}, {}, "without roles, role_permissions are off"),
    ({"sync": {"roles": None}}, {}, "roles must be True or False"),
    ({"sync": {"users": True}}, {}, "'users' is no type: there are resource_servers, roles"),
    ({"default_permissions": ["create:tenants"]}, {}, "must be some of"),
    (
        {"default_permissions": ["read:roles"]},
        {"creator_permissions": ("tenant:admin",)},
        "ROOST_CREATOR_PERMISSIONS is 'tenant:admin'",
    ),
    ({"require_organization_match": False}, {}, "cannot be switched off"),
    ({"get_placement": "shared"}, {}, "must be an async function"),
    ({"hooks": {"on_create": nothing}}, {}, "'on_create' is no kind of hook: there are before_create, "),
    ({"hooks": {"before_create": None}}, {}, "must be an async function"),
    ({"entity_hooks": {"notes": {}}}, {}, "'notes' is no service of entities: there are organizations, "),
    ({"entity_hooks": {"roles": {"before": {"create": [5]}}}}, {}, "multi_tenancy(entity_hooks=...)"),
    ({"inheritance": {"includes": []}}, {}, "includes"),
    ({"inheritance": {"transforms": {"links": "nothing"}}}, {}, "there is no transform 'nothing'"),
    ({"subdomains": {}}, {}, "set ROOST_BASE_HOSTS"),
    ({"subdomains": {"base_hosts": ["not a host"]}}, {}, "'not a host' is no host"),
    ({"subdomains": {"base_hosts": "a.test"}}, {}, "must be several hosts"),
    ({"subdomains": {"base_hosts": ["a.test"]}}, {"base_hosts": ("b.test",)}, "ROOST_BASE_HOSTS is 'b.test'"),
    ({"subdomains": {"hosts": []}}, {"base_hosts": ("b.test",)}, "'hosts' is unknown"),
)


async def test_what_cannot_be_had_stops_the_start(roosts: StartRoost, plugin: Plugin) -> None:
    """CO-1, CO-2, CO-5: unknown names, other words than the settings', and parts that would do nothing."""
    roost = await roosts()
    for options, settings, sentence in REFUSED:
        with pytest.raises(StartError) as caught:
            await Roost.start(
                roost.settings.model_copy(update={"modules": (plugin(composing(**options)),), "port": 0, **settings})
            )
        assert sentence in str(caught.value), options


def test_names_of_earlier_days_work_with_a_warning() -> None:
    """CO-1: `control_plane_tenant_id`, `main_tenant_id`, `with_settings_inheritance`."""
    for alias, today in ALIASES.items():
        app = Application()
        with pytest.warns(DeprecationWarning, match=f"{alias}=...\\) is called {today} now") as warned:
            composing(**{alias: "x"})(app)
        assert warned[0].filename == __file__
        assert app.composition == {today: "x"}
    with (
        pytest.warns(DeprecationWarning, match="control_plane"),
        pytest.raises(CompositionError, match="'control_plane' is given twice"),
    ):
        composing(main_tenant_id="x", control_plane_tenant_id="x")(Application())


def test_every_option_has_somebody_who_hands_it_on() -> None:
    """CO-5: none is accepted that has no effect; and one plug-in composes."""
    assert {*get_type_hints(MultiTenancy)} == {*PARTS}
    app = Application()
    app.multi_tenancy(inheritance=True)
    with pytest.raises(CompositionError, match="already"):
        app.multi_tenancy(inheritance=True)
