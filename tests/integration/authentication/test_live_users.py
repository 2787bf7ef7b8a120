"""What the database says of users reaches their live connections, whoever has changed it (FEATHERS.md 9, rows 6 to 9)."""

from __future__ import annotations

from typing import Any

import pytest

from hooks.context import HookContext, Params, Record
from hooks.errors import BadRequest
from hooks.tenant import Tenant
from server.main import Roost
from services.authentication.bearer import JwtStrategy
from services.authentication.ledger import Ledger, Session
from services.users import grant
from tests.conftest import StartRoost
from tests.integration.authentication.people import OPEN, is_in, is_out, log_in, sign_up, tenant_of
from tests.integration.server.command import environment, run
from tests.support.client import connect, fresh, rest, until
from tests.support.placed import database_of


def live_user(roost: Roost, user_id: str) -> Record:
    """The user as the one live connection has it."""
    [connection] = roost.connections.of_user("acme", user_id)
    assert connection.user is not None
    return connection.user


def has_permission(roost: Roost, user_id: str, permission: str) -> bool:
    """Whether the live connection knows of the permission."""
    return permission in live_user(roost, user_id).get("permissions", [])


async def test_what_changes_while_a_token_is_made_is_there_as_well(
    roosts: StartRoost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TK-9: a login finds the user, or whoever changes the user finds the login."""
    roost = await roosts(OPEN)
    issue = roost.people.tokens.issue
    async with connect(roost, "acme") as ada:
        name, user = await sign_up(ada)
        params = Params(tenant=tenant_of(roost, "acme"))

        async def issue_slowly(*arguments: Any, **more: Any) -> Any:
            made = await issue(*arguments, **more)
            await roost.app.call("users", "patch", params, id=user["_id"], data={"permissions": ["write"]})
            return made

        monkeypatch.setattr(roost.people.tokens, "issue", issue_slowly)
        await log_in(ada, name)
        assert has_permission(roost, user["_id"], "write")


async def test_a_change_in_this_process_is_there_before_the_answer(roosts: StartRoost) -> None:
    roost = await roosts(OPEN)
    async with connect(roost, "acme") as ada:
        user = await ada.sign_up(fresh())
        params = Params(tenant=tenant_of(roost, "acme"))
        await roost.app.call("users", "patch", params, id=user["_id"], data={"permissions": ["write"]})
        assert has_permission(roost, user["_id"], "write")
        seen: list[Any] = []
        roost.app.service("users").add_hooks({"before": {"find": [lambda context: note(context, seen)]}})
        await ada.call("find", "users", {"$limit": 0})
        assert seen == [["write"]]


def note(context: HookContext, seen: list[Any]) -> None:
    """Keeps what permissions an external caller has."""
    if context.params.provider is not None:
        seen.append((context.params.user or {}).get("permissions"))


async def test_the_command_line_grants_and_withdraws_at_a_running_server(mongod: str, roosts: StartRoost) -> None:
    roost = await roosts(OPEN)
    env = environment(mongod, roost.settings.database)
    async with connect(roost, "acme") as ada:
        user = await ada.sign_up("Ada")
        granted = await run("users", "grant", "acme", "ADA", "admin", env=env)
        assert (granted.code, granted.out) == (0, "ADA: admin\n"), granted.err
        await until(lambda: has_permission(roost, user["_id"], "admin"))
        assert "password" not in str(live_user(roost, user["_id"]))
        assert await ada.call("find", "api-keys", {}) == []
        gone = await run("users", "withdraw", "acme", "ada", "admin", env=env)
        assert (gone.code, gone.out) == (0, "ada: no permissions\n")
        await until(lambda: not has_permission(roost, user["_id"], "admin"))
    missing = await run("users", "grant", "acme", "eve", "admin", env=env)
    assert (missing.code, missing.err) == (1, "The app 'acme' has no user 'eve'\n")


async def test_what_is_no_permission_is_not_granted(roosts: StartRoost) -> None:
    roost = await roosts(OPEN)
    for permission in ("", "$admin", "a b", "1", "x" * 65, "é"):
        with pytest.raises(BadRequest, match="A permission is a word"):
            await grant(roost.backend.isolation, tenant_of(roost, "acme"), "ada", permission)


async def test_a_change_behind_the_servers_back_reaches_the_connection(roosts: StartRoost) -> None:
    roost = await roosts(OPEN)
    users = database_of(roost)["users"]
    async with connect(roost, "acme") as ada, connect(roost, "acme") as bob:
        user = await ada.sign_up(fresh())
        await bob.sign_up(fresh())
        await users.update_one({"app_id": "acme", "username": user["username"]}, {"$set": {"permissions": ["x"]}})
        await until(lambda: has_permission(roost, user["_id"], "x"))
        await users.delete_one({"app_id": "acme", "username": user["username"]})
        await until(lambda: is_out(ada))
        assert ada.connected
        assert await is_in(bob)


async def test_another_server_hears_of_changed_and_removed_users(roosts: StartRoost) -> None:
    here = await roosts(OPEN)
    there = await roosts(OPEN, database=here.settings.database)
    async with connect(here, "acme") as desk, connect(there, "acme") as phone, rest(here, "acme") as http:
        name, user = await sign_up(http)
        await log_in(desk, name)
        await log_in(phone, name)
        await desk.call("patch", "users", user["_id"], {"colour": "red"}, {})
        await until(lambda: live_user(there, user["_id"]).get("colour") == "red")
        await desk.call("remove", "users", user["_id"], {})
        assert await is_out(desk)
        await until(lambda: is_out(phone))


async def test_what_changes_during_a_login_by_token_is_seen_by_it(roosts: StartRoost) -> None:
    """A connection that is not there yet hears of no change: what it is given must be the last that was looked at."""
    roost = await roosts(OPEN)
    isolation, tenant = roost.backend.isolation, tenant_of(roost, "acme")

    class Interrupted(Ledger):
        """Meets the loss of a permission while it asks the database for a session."""

        async def _find(self, tenant: Tenant, id: str) -> Session | None:
            found = await super()._find(tenant, id)
            await grant(isolation, tenant, "ada", "admin", withdraw=True)
            return found

    people = roost.people
    jwt = JwtStrategy(people.directory, people.tokens, Interrupted(isolation), people.api_keys)
    async with connect(roost, "acme") as ada:
        await ada.sign_up("ada")
        await grant(isolation, tenant, "ada", "admin")
        found = await jwt.verify(ada.token, Params(tenant=tenant))
        assert found.principal["permissions"] == []


async def test_a_login_that_has_expired_is_a_strangers_and_the_socket_stays(roosts: StartRoost) -> None:
    roost = await roosts(OPEN.replace("api_key]}", "api_key], access_token_lifetime: 10}"))
    async with connect(roost, "acme") as ada:
        user = await ada.sign_up(fresh())
        [connection] = roost.connections.of_user("acme", user["_id"])
        assert connection.authentication is not None
        payload = connection.authentication.payload
        assert payload["exp"] - payload["iat"] == 10, "the tenant's own lifetime"
        roost.connections._expire(connection, 0.0)
        told = await ada.next_event()
        assert (told.name, told.record) == ("authentication removed", {"reason": "expired"})
        assert await is_out(ada)
        assert ada.connected
        assert roost.connections.of_user("acme", user["_id"]) == []
        await ada.login(user["username"])
        assert await is_in(ada)
