"""TENANCY 1.4, LIMITS O6: who may manage which app. Every caller, service and method, in every tenant, over both transports.

What each caller may do is said once, in `ALLOWED`; everything else must be refused: strangers by 401, all others by 403.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from hooks.permission import TENANT_LEVEL
from server.main import Roost
from services.entities.registry import ORGANIZATIONS
from tests.integration.entities.people import HUB, make_person, make_role, tenant_of
from tests.support.client import CallError, Client, Rest, connect, fresh, outcome, rest
from tests.support.roost import start_roost

pytestmark = pytest.mark.asyncio(loop_scope="module")
NORTH, SOUTH = "north", "south"
APPS = f"""
tenants:
  - id: {NORTH}
    auth: {{username_field: email}}
    services: {{notes: {{rules: {{default: authenticated}}}}}}
  - id: {SOUTH}
    auth: {{username_field: email}}
    services: {{notes: {{rules: {{default: authenticated}}}}}}
"""
TENANTS = (HUB, NORTH, SOUTH)
CALLERS = (
    "stranger",
    "child user",
    "child admin",
    "namesake's member",
    "child token of a manager's id",
    "home user",
    "home admin",
    "member",
    "member at home",
    "member elsewhere",
    "look-alike",
    "root",
    "root in an organization",
    "machine",
    "machine at home",
)
"""A child's people are the north's. `member` and `machine` act in the north's organization of the control plane, with a role
that reads roles; `... at home` are the same in no organization, `elsewhere` in that of the south. `root` has a global
`admin:organizations`; `look-alike` has a scope of that name of some other API."""
NOUNS = {
    "organizations": "organizations",
    "members": "organization_members",
    "invitations": "organization_members",
    "roles": "roles",
    "user-roles": "users",
    "resource-servers": "resource_servers",
    "clients": "clients",
}
VERBS = {"find": "read", "create": "create", "patch": "update", "remove": "delete"}
ID = "0123456789abcdef01234567"
DATA: dict[str, dict[str, Any]] = {
    "organizations": {"display_name": "x"},
    "members": {"roles": []},
    "invitations": {"org_id": ID, "email": "a@b.example"},
    "roles": {"description": "x"},
    "user-roles": {"user_id": ID, "role_id": ID},
    "resource-servers": {"name": "x"},
    "clients": {"description": "x"},
}
CALLS = [
    (path, method)
    for path in NOUNS
    for method in VERBS
    if not (method == "patch" and path in ("invitations", "user-roles"))
]
ALL = frozenset(TENANT_LEVEL)
READ_ROLES = frozenset({"read:roles"})
ALLOWED: dict[tuple[str, str], frozenset[str]] = {
    ("child admin", NORTH): ALL,
    ("namesake's member", NORTH): ALL,
    ("home admin", HUB): ALL,
    ("member", NORTH): READ_ROLES,
    ("member elsewhere", SOUTH): READ_ROLES,
    ("root", NORTH): ALL,
    ("root", SOUTH): ALL,
    ("root in an organization", NORTH): READ_ROLES,
    ("machine", NORTH): READ_ROLES,
}
"""What somebody may do in a tenant; who is not named may do nothing there."""
KNOWN: dict[str, frozenset[str]] = {
    NORTH: frozenset({"child user", "child admin", "namesake's member", "member", "root", "machine"})
    | {"root in an organization"},
    HUB: frozenset({"home user", "home admin", "member at home", "look-alike", "root", "machine at home"}),
    SOUTH: frozenset({"member elsewhere", "root"}),
}
"""Who is anybody in a tenant: he may ask for his own organizations, and be shown none."""


@dataclass(frozen=True)
class World:
    """A server, and a token for each caller."""

    roost: Roost
    tokens: dict[str, str | None]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(mongod: str) -> AsyncIterator[World]:
    """All callers, made once."""
    roost = await start_roost(mongod, APPS)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(roost.drop)
        yield World(roost, await make_tokens(roost))


async def token_of(roost: Roost, app: str, name: str) -> str:
    async with rest(roost, app) as http:
        answer = await http.login(name, field="username" if app == HUB else "email")
    return str(answer["accessToken"])


async def enter(roost: Roost, app: str, token: str, organization: str) -> str:
    async with rest(roost, app) as http:
        data = {"strategy": "organization", "organization": organization, "accessToken": token}
        return str((await http.call("create", "authentication", data))["accessToken"])


async def make_tokens(roost: Roost) -> dict[str, str | None]:
    hub = tenant_of(roost, HUB)
    orgs: dict[str, str] = {}
    for app in (NORTH, SOUTH):
        found = await roost.people.entities.first(hub, ORGANIZATIONS, {"tenant_id": app})
        assert found is not None, "the lifecycle has made it"
        orgs[app] = str(found["_id"])
    names: dict[str, tuple[str, str]] = {
        "child user": await make_person(roost, NORTH),
        "child admin": await make_person(roost, NORTH, "tenant:admin"),
        "namesake's member": await make_person(roost, NORTH),
        "home user": await make_person(roost, HUB),
        "home admin": await make_person(roost, HUB, "tenant:admin", "admin"),
        "member": await make_person(roost, HUB),
        "look-alike": await make_person(roost, HUB),
        "root": await make_person(roost, HUB, "admin:organizations"),
    }
    places = {"child user": NORTH, "child admin": NORTH, "namesake's member": NORTH}
    tokens: dict[str, str | None] = {
        caller: await token_of(roost, places.get(caller, HUB), name) for caller, (name, _) in names.items()
    }
    tokens |= {"stranger": None, "member at home": tokens["member"]}
    async with rest(roost, HUB) as admin, rest(roost, NORTH) as child:
        await admin.login(names["home admin"][0], field="username")
        await child.login(names["child admin"][0], field="email")
        role = await make_role(admin, "read:roles")
        for app in (NORTH, SOUTH):
            data = {"org_id": orgs[app], "user_id": names["member"][1], "roles": [role]}
            await admin.call("create", "members", data)
        await admin.call("create", "members", {"org_id": orgs[NORTH], "user_id": names["root"][1], "roles": [role]})
        key = await admin.call("create", "api-keys", {"name": "robot", "scopes": ["*"]})
        machine = {"org_id": orgs[NORTH], "user_id": f"key:{key['_id']}", "roles": [role]}
        await admin.call("create", "members", machine)
        look = fresh("https://look-alike.example/")
        scopes = [{"value": "admin:organizations"}, {"value": "read:roles"}]
        await admin.call("create", "resource-servers", {"identifier": look, "scopes": scopes})
        alike = await make_role(admin, "admin:organizations", "read:roles", server=look)
        await admin.call("create", "user-roles", {"user_id": names["look-alike"][1], "role_id": alike})
        named = await child.call("create", "organizations", {"name": SOUTH})
        strong = await make_role(child, "tenant:admin")
        data = {"org_id": named["_id"], "user_id": names["namesake's member"][1], "roles": [strong]}
        await child.call("create", "members", data)
    tokens["member"] = await enter(roost, HUB, str(tokens["member at home"]), NORTH)
    tokens["member elsewhere"] = await enter(roost, HUB, str(tokens["member at home"]), SOUTH)
    tokens["root in an organization"] = await enter(roost, HUB, str(tokens["root"]), NORTH)
    tokens["machine at home"], tokens["machine"] = key["key"], await enter(roost, HUB, key["key"], NORTH)
    tokens["namesake's member"] = await enter(roost, NORTH, str(tokens["namesake's member"]), SOUTH)
    forged, _ = await roost.people.tokens.issue(tenant_of(roost, NORTH), names["member"][1])
    tokens["child token of a manager's id"] = forged
    return tokens


def expected(caller: str, app: str, path: str, method: str) -> frozenset[int]:
    """The status with which a call is answered; 200 is any answer of a call that was let through."""
    held = ALLOWED.get((caller, app), frozenset())
    word = "update:users" if path == "user-roles" and method != "find" else f"{VERBS[method]}:{NOUNS[path]}"
    if word in held:
        return frozenset({200})
    if caller == "stranger":
        return frozenset({401})
    if caller in ("child token of a manager's id", "machine at home") and caller not in KNOWN[app]:
        # The one has no user, the other is no key of this app: neither is anybody.
        return frozenset({401, 403})
    if path == "organizations" and method == "find" and caller in KNOWN[app]:
        return frozenset({200})
    return frozenset({403})


PASSED = frozenset({200, 201, 400, 404, 409})
"""Statuses of calls that the rules let through: what they name is not there."""


async def ask(caller: Client | Rest, path: str, method: str) -> int:
    arguments: tuple[Any, ...] = {
        "find": ({"$limit": 1},),
        "create": (DATA[path],),
        "patch": (ID, DATA[path]),
        "remove": (ID,),
    }[method]
    answer = await outcome(caller, method, path, *arguments)
    return answer.code if isinstance(answer, CallError) else 200


def check(statuses: dict[tuple[str, str], int], caller: str, app: str) -> None:
    wrong = {}
    for (path, method), status in statuses.items():
        wanted = expected(caller, app, path, method)
        if status not in (PASSED if wanted == {200} else wanted):
            wrong[path, method] = status, sorted(wanted)
    assert wrong == {}


@pytest.mark.parametrize("app", TENANTS)
@pytest.mark.parametrize("caller", CALLERS)
async def test_over_http(world: World, caller: str, app: str) -> None:
    """1.4: over REST, where each request shows its token anew."""
    async with rest(world.roost, app) as http:
        if (token := world.tokens[caller]) is not None:
            http.headers["Authorization"] = f"Bearer {token}"
        check({call: await ask(http, *call) for call in CALLS}, caller, app)


@pytest.mark.parametrize("app", TENANTS)
@pytest.mark.parametrize("caller", CALLERS)
async def test_over_sockets(world: World, caller: str, app: str) -> None:
    """1.4: over sockets, where a login that is refused leaves a stranger."""
    token = world.tokens[caller]
    async with connect(world.roost, app) as socket:
        refused = None
        if token is not None:
            answer = await outcome(socket, "create", "authentication", {"strategy": "jwt", "accessToken": token})
            refused = answer.code if isinstance(answer, CallError) else None
        is_anybody = caller in KNOWN[app] or (caller, app) in ALLOWED
        assert (refused is None) == (is_anybody or token is None)
        if refused is not None:
            assert refused in expected(caller, app, "roles", "remove")
        statuses = {call: await ask(socket, *call) for call in CALLS}
        check(statuses, caller if refused is None else "stranger", app)


async def test_the_matrix_is_large_enough() -> None:
    """At least 300 cases, each of them decided."""
    assert len(CALLERS) * len(CALLS) * len(TENANTS) * 2 >= 300
    kinds = {expected(caller, app, *call) for caller in CALLERS for app in TENANTS for call in CALLS}
    assert {frozenset({200}), frozenset({401}), frozenset({403})} <= kinds


NEW_APP = {"id": "new-app", "friendly_name": "New"}
CHILDS_PEOPLE = ("child user", "child admin", "namesake's member")


@pytest.mark.parametrize("app", TENANTS)
@pytest.mark.parametrize("caller", CALLERS)
async def test_nobody_here_makes_or_deletes_an_app(world: World, caller: str, app: str) -> None:
    """CP-4, CP-12, CP-14, CP-16: without the platform's permission, whatever the organization or the id is called."""
    async with rest(world.roost, app) as http:
        if (token := world.tokens[caller]) is not None:
            http.headers["Authorization"] = f"Bearer {token}"
        for method, arguments in (
            ("create", (NEW_APP,)),
            ("remove", (SOUTH, {"confirm": SOUTH})),
            ("remove", (HUB, {"confirm": HUB})),
            ("patch", (SOUTH, {"plan": "other"})),
        ):
            answer = await outcome(http, method, "tenants", *arguments)
            assert isinstance(answer, CallError), (method, arguments)
            assert answer.code in ((401,) if caller == "stranger" else (401, 403, 404)), (method, arguments, answer)
        for id in (HUB, NORTH, SOUTH):
            tenant = await world.roost.backend.tenants.get(id)
            assert tenant is not None
            assert (tenant.status, tenant.plan) == ("ready", "default")
        assert await world.roost.backend.tenants.get("new-app") is None


async def listed(world: World, caller: str, app: str) -> set[str] | int:
    """The apps that somebody is shown, or the status of the refusal."""
    async with rest(world.roost, app) as http:
        http.headers["Authorization"] = f"Bearer {world.tokens[caller]}"
        answer = await outcome(http, "find", "tenants")
        return answer.code if isinstance(answer, CallError) else {one["_id"] for one in answer["data"]}


async def test_managers_are_shown_the_apps_that_they_belong_to(world: World) -> None:
    """CP-12, TK-5, TK-6, 1.4: by `tenant_id` of memberships; a child's people none, also by a manager's id."""
    assert await listed(world, "member at home", HUB) == {NORTH, SOUTH}
    assert await listed(world, "home user", HUB) == set()
    assert await listed(world, "member", NORTH) == {NORTH}
    assert await listed(world, "member elsewhere", SOUTH) == {SOUTH}
    for caller in (*CHILDS_PEOPLE, "child token of a manager's id"):
        for app in (NORTH, HUB):
            assert await listed(world, caller, app) in (401, 403), (caller, app)
