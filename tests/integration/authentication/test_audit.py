"""The audit log of an app: what gets into it, who reads it, and that nobody changes it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from server.main import Roost
from services.users import grant
from tests.conftest import StartRoost
from tests.integration.authentication.people import tenant_of
from tests.integration.server.command import environment, run
from tests.support.client import Caller, CallError, connect, fresh, outcome, rest
from tests.support.placed import database_of
from tests.support.roost import TWO_APPS

CANARY = "canary-7f3a-secret"
FRESH = "canary-8b2c-secret"
APPS = """
tenants:
  - id: acme
    auth: {strategies: [local, jwt, refresh, anonymous, api_key]}
  - id: globex
    auth: {strategies: [local, jwt, refresh, anonymous, api_key]}
"""


async def make_admin(roost: Roost, name: str, tenant: str = "acme") -> None:
    await grant(roost.backend.isolation, tenant_of(roost, tenant), name, "admin")


async def read(roost: Roost, caller: Caller, **query: Any) -> list[Any]:
    """The entries of the caller's app, the newest first."""
    await roost.backend.audit.settled()
    page = await caller.call("find", "audit-log", query)
    found: list[Any] = page["data"]
    return found


async def test_accounts_and_keys_leave_entries_without_secrets(roosts: StartRoost) -> None:
    roost = await roosts(APPS)
    name = fresh("ada")
    async with rest(roost, "acme", **{"User-Agent": "curl/8"}) as ada, connect(roost, "acme") as socket:
        user = await ada.sign_up(name, CANARY)
        await make_admin(roost, name)
        await outcome(
            socket, "create", "authentication", {"strategy": "local", "username": name, "password": "x" + CANARY}
        )
        await outcome(socket, "create", "users", {"username": name, "password": CANARY})
        login = await socket.login(name, CANARY)
        await socket.login_by(login["accessToken"])
        key = await ada.call("create", "api-keys", {"name": "robot", "scopes": ["*"]})
        change = {"action": "change-password", "currentPassword": CANARY, "password": FRESH}
        await outcome(socket, "create", "accounts", {**change, "currentPassword": "x" + CANARY})
        await socket.call("create", "accounts", change)
        await socket.call("patch", "users", user["_id"], {"password": CANARY}, {})
        await socket.call("create", "accounts", {"action": "reset-request", "username": name})
        await socket.logout()
        await ada.login(name, CANARY)
        entries = await read(roost, ada)
    found = [(entry["event"], entry["outcome"], entry["actor_id"], entry["subject"]) for entry in reversed(entries)]
    id = user["_id"]
    assert found == [
        ("app-applied", "success", None, "acme"),
        ("sign-up", "success", id, id),
        ("sign-in", "success", id, id),
        ("sign-in", "failure", None, name),
        ("sign-up", "failure", None, None),
        ("sign-in", "success", id, id),
        ("api-key-created", "success", id, key["_id"]),
        ("password-changed", "failure", id, id),
        ("password-changed", "success", id, id),
        ("password-changed", "success", id, id),
        ("password-reset-requested", "success", id, name),
        ("sign-out", "success", id, id),
        ("sign-in", "success", id, id),
    ]
    assert {entry["address"] for entry in entries[:-1]} == {"127.0.0.1"}
    assert entries[0]["user_agent"] == "curl/8"
    assert entries[-4]["details"] == {"error": "NotAuthenticated", "strategy": "local"}
    text = json.dumps(entries) + str([entry async for entry in _stored(roost).find({"app_id": "acme"})])
    for secret in (CANARY, FRESH, login["accessToken"], key["key"], "$argon2", 'expires_at": "'):
        assert secret not in text, secret


def _stored(roost: Roost) -> Any:
    return database_of(roost)["audit_log"]


async def test_admins_read_it_and_nobody_writes_it(roosts: StartRoost) -> None:
    roost = await roosts(APPS)
    name = fresh("ada")
    async with connect(roost, "acme") as ada, rest(roost, "acme") as http, rest(roost, "acme") as stranger:
        await ada.sign_up(name)
        await http.login(name)
        reading: list[tuple[str, list[Any]]] = [("find", [{}]), ("get", ["0" * 24, {}])]
        for caller, code in ((ada, 403), (http, 403), (stranger, 401)):
            for method, arguments in reading:
                error = await outcome(caller, method, "audit-log", *arguments)
                assert isinstance(error, CallError)
                assert error.code == code
        await make_admin(roost, name)
        await ada.login(name)
        entry = (await read(roost, http))[0]
        assert await http.call("get", "audit-log", entry["_id"]) == entry
        assert [found["event"] for found in await read(roost, ada, event="sign-up")] == ["sign-up"]
        before = await read(roost, ada)
        writing: list[tuple[str, list[Any]]] = [
            ("create", [{"event": "made-up"}, {}]),
            ("update", [entry["_id"], {"event": "made-up"}, {}]),
            ("patch", [entry["_id"], {"event": "made-up"}, {}]),
            ("patch", [None, {"event": "made-up"}, {}]),
            ("remove", [entry["_id"], {}]),
            ("remove", [None, {}]),
        ]
        for method, arguments in writing:
            for caller in (ada, http):
                error = await outcome(caller, method, "audit-log", *arguments)
                assert isinstance(error, CallError)
                assert error.code == 405, method
        assert await read(roost, ada) == before
        await ada.quiet()


async def test_one_app_sees_nothing_of_another(roosts: StartRoost) -> None:
    roost = await roosts(APPS)
    async with connect(roost, "acme") as ada, connect(roost, "globex") as bob:
        names = {"acme": fresh("ada"), "globex": fresh("bob")}
        for tenant, client in (("acme", ada), ("globex", bob)):
            await client.sign_up(names[tenant])
            await make_admin(roost, names[tenant], tenant)
            await client.login(names[tenant])
        own, others = await read(roost, ada), await read(roost, bob)
        assert {entry["_id"] for entry in own}.isdisjoint(entry["_id"] for entry in others)
        assert len(own) == len(others) == 4
        for entry in own:
            error = await outcome(bob, "get", "audit-log", entry["_id"], {})
            assert isinstance(error, CallError)
            assert error.code == 404
        for query in (
            {"_id": own[0]["_id"]},
            {"subject": own[0]["subject"]},
            {"$or": [{"event": "sign-up"}, {"n": 1}]},
        ):
            assert {entry["_id"] for entry in await read(roost, bob, **query)} <= {entry["_id"] for entry in others}
        token = ada.token
        assert isinstance(
            await outcome(bob, "create", "authentication", {"strategy": "jwt", "accessToken": token}), CallError
        )


async def test_when_an_entry_expires_is_not_shown_and_not_asked_for(roosts: StartRoost) -> None:
    roost = await roosts(APPS, audit_days=7)
    async with connect(roost, "acme") as ada:
        await ada.sign_up(name := fresh("ada"))
        await make_admin(roost, name)
        await ada.login(name)
        assert all("expires_at" not in entry for entry in await read(roost, ada))
        error = await outcome(ada, "find", "audit-log", {"expires_at": {"$gt": 0}})
        assert isinstance(error, CallError)
        assert error.code == 400
    stored = await _stored(roost).find_one({"app_id": "acme"})
    assert (stored["expires_at"] - stored["at"]).days == 7
    assert "expireAfterSeconds" in (await _stored(roost).index_information())["expires_at_expiry"]


async def test_what_operators_do_is_there_for_the_app_to_see(mongod: str, roosts: StartRoost, tmp_path: Path) -> None:
    roost = await roosts(TWO_APPS)
    env = environment(mongod, roost.settings.database)
    name = fresh("ada")
    async with connect(roost, "acme") as ada:
        await ada.sign_up(name)
        file = tmp_path / "apps.yaml"
        await asyncio.to_thread(file.write_text, TWO_APPS.replace("find: public, default: nobody", "default: public"))
        for arguments in (
            ("users", "grant", "acme", name, "admin"),
            ("keys", "rotate", "acme"),
            ("apply", file),
            ("apply", file),
        ):
            ended = await run(*arguments, env=env)
            assert ended.code == 0, ended.err
        await ada.login(name)
        entries = [entry for entry in reversed(await read(roost, ada)) if not entry["event"].startswith("sign")]
    by = {"by": "operator"}
    assert [(entry["event"], entry["details"]) for entry in entries[1:]] == [
        ("permission-granted", {**by, "permission": "admin"}),
        ("keys-rotated", {**by, "overlap": 86_400}),
        ("app-applied", {**by, "outcome": "updated", "services": ["sealed"], "auth": False}),
    ]


async def test_a_database_that_is_gone_delays_no_sign_in(roosts: StartRoost) -> None:
    roost = await roosts(APPS)
    database = database_of(roost)
    # Nothing gets into the collection any more, as if the disk were full for it alone.
    await database.command({"collMod": "audit_log", "validator": {"never": True}, "validationAction": "error"})
    async with connect(roost, "acme") as ada:
        await ada.sign_up(fresh("ada"))
    await roost.backend.audit.settled()
    assert roost.backend.audit.dropped == 2
