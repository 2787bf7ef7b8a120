"""Who the current tenant is: from one place, for one event, request or job, and then nobody (TENANCY.md 8.2.2)."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import server
from hooks.context import Params, Record
from hooks.tenant import Tenant, current_tenant, tenant_scope
from server.main import Roost
from services.base import Service
from services.control.loads import Loads
from services.tasks import detached
from tests.support.client import TIMEOUT, Caller, connect, outcome, rest, until

ROOT = Path(server.__file__).parents[1]
ACME, GLOBEX = Tenant("acme", "Acme"), Tenant("globex", "Globex")

NAMES = {"app_id", "tenant_id", "appId", "tid", "tenant", "x-app-id", "x-tenant-id", "X-App-Id", "X-Tenant-ID"}
CONSTANTS = {"APP_ID", "KEY_HEADER", "TENANT"}
SENT = {"data", "query", "headers", "match_info", "route", "auth", "fields", "body"}
"""What things that clients send are called in the code."""
RESOLVER = {
    "server/handshake.py": "reads the names",
    "server/resolver.py": "makes a tenant of them",
    "server/rest.py": "takes a public key out of a query, which the resolver has read",
    "server/oauth.py": "hands the names on the page's address to the resolver",
    "services/control/services/sync_status.py": "managers name the app that is compared; anybody else his own alone",
}


def readings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Where something that a client sends is asked for a tenant: the line and the code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
            key, base = node.slice, node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            if node.func.attr not in ("get", "getall", "getone", "pop"):
                continue
            key, base = node.args[0], node.func.value
        else:
            continue
        is_named = isinstance(key, ast.Constant) and key.value in NAMES
        is_named |= isinstance(key, ast.Name) and key.id in CONSTANTS
        if is_named and ast.unparse(base).rpartition(".")[2] in SENT:
            yield node.lineno, ast.unparse(node)


def test_nothing_but_the_resolver_reads_a_tenant_from_what_clients_send() -> None:
    """ID-1: data, query, headers and path are read by one module alone."""
    found = {
        f"{file.relative_to(ROOT)}:{line}: {code}"
        for folder in ("server", "services", "hooks")
        for file in (ROOT / folder).rglob("*.py")
        if str(file.relative_to(ROOT)) not in RESOLVER
        for line, code in readings(ast.parse(file.read_text(encoding="utf-8")))
    }
    assert found == set()


@pytest.mark.parametrize(
    "code",
    [
        'context.data["app_id"]',
        'params.query.get("tenant_id")',
        'request.headers["x-app-id"]',
        'request.headers.getall("X-Tenant-ID", [])',
        "request.query.get(APP_ID)",
        'request.match_info["app_id"]',
        'params.route["tenant"]',
        'auth.get("appId")',
        'data.pop("app_id")',
    ],
)
def test_the_search_finds_what_it_looks_for(code: str) -> None:
    """ID-1."""
    assert [*readings(ast.parse(code))]


def test_there_is_no_default_tenant() -> None:
    """ID-2: outside of a scope there is nobody."""
    with pytest.raises(LookupError):
        current_tenant()


def test_scopes_are_left_as_they_were_found() -> None:
    """ID-3: also by an exception, and one inside another."""
    with tenant_scope(ACME):
        with contextlib.suppress(RuntimeError), tenant_scope(GLOBEX):
            assert current_tenant() is GLOBEX
            raise RuntimeError
        assert current_tenant() is ACME
    with pytest.raises(LookupError):
        current_tenant()


def test_the_current_tenant_cannot_be_changed() -> None:
    """ID-2, ID-5: a switch replaces the object."""
    for field in dataclasses.fields(Tenant):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(ACME, field.name, None)


class Probe(Service):
    """Tells in whose scope it is called, in all the ways in which work goes on from there."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.go_on = asyncio.Event()
        self.late: list[asyncio.Task[str]] = []

    async def find(self, params: Params) -> list[Record]:
        return [{"tenant": current_tenant().id, "is_the_same": current_tenant() is params.tenant}]

    async def get(self, id: Any, params: Params) -> Record:
        """Waits until it is told to go on."""
        before = params.tenant.plan
        self.entered.set()
        async with asyncio.timeout(TIMEOUT):
            await self.go_on.wait()
        return {"_id": id, "plans": [before, params.tenant.plan, current_tenant().plan]}

    async def create(self, data: Any, params: Params) -> Record:
        """Begins what outlives the call."""
        self.late.append(detached(told(), "late"))
        loop = asyncio.get_running_loop()
        return {
            "task": await asyncio.create_task(told()),
            "thread": await asyncio.to_thread(tell),
            "executor": await loop.run_in_executor(None, tell),
        }


def tell() -> str:
    try:
        return current_tenant().id
    except LookupError:
        return "nobody"


async def told() -> str:
    await asyncio.sleep(0)
    return tell()


@pytest.fixture
def probe(roost: Roost) -> Probe:
    probe = Probe()
    roost.app.use("probe", probe, rules="public")
    return probe


async def test_each_event_and_request_has_its_own_tenant(roost: Roost, probe: Probe) -> None:
    """ID-2, ID-3: over both transports, interleaved, and nobody's afterwards."""
    async with (
        connect(roost, "acme") as ada,
        connect(roost, "globex") as eve,
        rest(roost, "acme") as here,
        rest(roost, "globex") as there,
    ):
        callers: list[tuple[str, Caller]] = [("acme", ada), ("globex", eve), ("acme", here), ("globex", there)]
        callers *= 25
        answers = await asyncio.gather(*(caller.call("find", "probe", {}) for _, caller in callers))
        assert answers == [[{"tenant": id, "is_the_same": True}] for id, _ in callers]
    assert tell() == "nobody"


async def test_how_the_tenant_goes_along_with_what_a_call_begins(roost: Roost, probe: Probe) -> None:
    """ID-4: tasks and `to_thread` take it along, `run_in_executor` does not, and detached tasks are nobody's."""
    async with connect(roost, "acme") as ada, rest(roost, "globex") as there:
        for id, caller in (("acme", ada), ("globex", there)):
            answer = await outcome(caller, "create", "probe", {}, {})
            assert answer == {"task": id, "thread": id, "executor": "nobody"}
    assert await asyncio.gather(*probe.late) == ["nobody", "nobody"]


async def test_callbacks_carry_the_tenant_of_their_registration() -> None:
    """ID-4: timers and done callbacks too; so what lasts is registered outside of calls, or detached."""
    told_by: list[str] = []
    loop = asyncio.get_running_loop()
    with tenant_scope(ACME):
        task = asyncio.create_task(asyncio.sleep(0))
        task.add_done_callback(lambda _: told_by.append(tell()))
        loop.call_soon(lambda: told_by.append(tell()))
    with tenant_scope(GLOBEX):
        await task
        await asyncio.sleep(0)
    assert told_by == ["acme", "acme"]


async def test_what_calls_share_is_nobodys() -> None:
    """ID-4: a reading of the catalogue that one call has begun answers others as well."""
    seen: list[str] = []

    async def read(key: str) -> str:
        seen.append(tell())
        return key

    async def settle(key: str, value: str) -> str:
        seen.append(tell())
        return value

    with tenant_scope(ACME):
        assert await Loads(read, settle).get("x") == "x"
    assert seen == ["nobody", "nobody"]


async def test_a_call_keeps_the_configuration_with_which_it_began(roost: Roost, probe: Probe) -> None:
    """ID-5, TC-11: the connection gets a new object, the running call keeps the old one, the next one has the new one."""
    async with connect(roost, "acme") as ada:
        (connection,) = roost.connections.of("acme")
        first = connection.tenant
        running = asyncio.create_task(ada.call("get", "probe", "1", {}))
        await probe.entered.wait()
        await roost.backend.configuration.change("acme", {"plan": "large"})
        await until(lambda: connection.tenant.plan == "large")
        assert first.plan == "default"
        probe.go_on.set()
        assert (await running)["plans"] == ["default"] * 3
        assert (await ada.call("get", "probe", "2", {}))["plans"] == ["large"] * 3
