"""Rules that come with the code are audited too: a start with others leaves an entry in the log of every app it concerns."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import pytest
from bson import ObjectId

from hooks.context import Params, Record
from server.main import Roost
from services.application import Application
from services.audit import Audit, Happening
from services.base import Service
from services.control.own_rules import MOST_CHANGES
from services.users import grant
from tests.conftest import StartRoost
from tests.integration.authentication.people import tenant_of
from tests.support.client import Rest, fresh, rest
from tests.support.roost import TWO_APPS, start_roost
from tests.support.tripwire import Tripwire


class Desk(Service):
    """A service of a plug-in."""

    async def find(self, params: Params) -> list[Record]:
        return []


@pytest.fixture
def plug_in(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a module that serves a desk by these rules; its name."""

    def make(rules: Mapping[str, str]) -> str:
        module = ModuleType(fresh("plugin"))

        def configure(app: Application) -> None:
            app.use("desk", Desk(), rules=rules)

        module.configure = configure  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return module.__name__

    return make


@asynccontextmanager
async def admin(roost: Roost, tenant: str, name: str) -> AsyncIterator[Rest]:
    """An administrator of an app, who is signed up if need be."""
    field = {"globex": "email"}.get(tenant, "username")
    async with rest(roost, tenant) as http:
        if await roost.backend.isolation.collection(tenant_of(roost, tenant), "users").count({}) == 0:
            await http.sign_up(name, field=field)
            await grant(roost.backend.isolation, tenant_of(roost, tenant), name, "admin")
        await http.login(name, field=field)
        yield http


async def changes(http: Rest) -> list[Any]:
    """What the log says of rules that came with the code, the oldest first; it is read twice."""
    await http.call("find", "audit-log", {})
    page = await http.call("find", "audit-log", {"event": "rules-changed", "$sort": {"at": 1}})
    return [entry["details"] for entry in page["data"]]


async def test_a_start_with_other_rules_is_in_the_log_of_every_app_once(
    mongod: str, tripwire: Tripwire, roosts: StartRoost, plug_in: Any
) -> None:
    name = "ada@example.com"
    first = await start_roost(
        mongod, TWO_APPS, tripwire=tripwire, modules=(plug_in({"find": "authenticated", "get": "nobody"}),)
    )
    async with admin(first, "acme", name) as http:
        assert await changes(http) == [], "there was nothing before"
    async with admin(first, "globex", name):
        pass
    database, port = first.settings.database, first.port
    await first.stop()

    same = await start_roost(
        mongod, database=database, modules=(plug_in({"get": "nobody", "find": "authenticated"}),), tripwire=tripwire
    )
    async with admin(same, "acme", name) as http:
        assert await changes(http) == [], "the order says nothing"
    await same.stop()

    opened = await start_roost(
        mongod, database=database, port=port, modules=(plug_in({"find": "public"}),), tripwire=tripwire
    )
    entry = {"by": "operator", "services": ["desk"]}
    for tenant in ("acme", "globex"):
        async with admin(opened, tenant, name) as http:
            assert await changes(http) == [entry]
            assert await changes(http) == [entry], "once, however often it is read"
    await opened.stop()

    third_app = TWO_APPS + "  - id: initech\n"
    bare = await roosts(third_app, database=database)
    async with admin(bare, "acme", name) as http:
        assert await changes(http) == [entry, entry], "the plug-in is gone"
    async with admin(bare, "initech", name) as http:
        assert await changes(http) == [entry], "what was before this app does not concern it"


async def test_starts_at_one_moment_count_as_one_and_the_list_is_bounded(roost: Roost) -> None:
    own_rules = roost.backend.own_rules
    found = await asyncio.gather(*(own_rules.note({"desk": {"find": "public"}}) for _ in range(5)))
    assert len([change for change in found if change is not None]) == 1
    for number in range(MOST_CHANGES + 5):
        await own_rules.note({"desk": {"find": {"n": number}}})
    assert len(await own_rules.changes_since_creation("acme")) == MOST_CHANGES
    assert await own_rules.changes_since_creation("nobody") == []


async def test_what_would_have_expired_is_not_written(roost: Roost) -> None:
    isolation, tenant = roost.backend.isolation, tenant_of(roost, "acme")
    happening = Happening(ObjectId(), datetime.fromtimestamp(1_000_000, UTC), "rules-changed", {})
    log = isolation.collection(tenant, "audit_log")
    for clock, expected in ((1_000_000.0 + 2 * 86_400, 0), (1_000_000.0 + 86_400, 1)):
        audit = Audit(isolation, days=2, clock=lambda clock=clock: clock)  # type: ignore[misc]
        await asyncio.gather(*(audit.complete(tenant, [happening]) for _ in range(3)))
        assert await log.count({"_id": happening.id}) == expected
