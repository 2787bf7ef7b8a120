"""The control plane's own tenant and its first user (TENANCY CP-1, CP-2): made once, by whoever starts first."""

from __future__ import annotations

import asyncio
import secrets

import pytest

from hooks.permission import PLATFORM, TENANT_ADMIN
from server.backend import StartError
from server.main import Roost
from tests.conftest import StartRoost
from tests.integration.server.command import run, serving
from tests.support.client import CallError, connect, outcome, rest
from tests.support.roost import ADMIN, CONTROL_PLANE


async def test_there_is_one_control_plane_whose_first_user_may_do_everything(roost: Roost) -> None:
    """CP-1: its id is no app's, and its user logs in as users of any app do."""
    found = [tenant async for tenant in roost.backend.tenants.all() if tenant.is_control_plane]
    assert [(tenant.id, tenant.status) for tenant in found] == [(CONTROL_PLANE, "ready")]
    async with connect(roost, CONTROL_PLANE) as client:
        name, password = ADMIN
        answer = await client.call(
            "create", "authentication", {"strategy": "local", "username": name, "password": password}
        )
    assert {*answer["user"]["permissions"]} == {*PLATFORM, TENANT_ADMIN}
    assert "password" not in answer["user"]
    async with rest(roost, "acme") as stranger:
        refused = await outcome(
            stranger, "create", "authentication", {"strategy": "local", "username": name, "password": password}
        )
    assert isinstance(refused, CallError)
    assert refused.code == 401


async def test_a_second_start_makes_nobody_anew(roosts: StartRoost) -> None:
    """CP-1: a first user who was removed stays removed."""
    roost = await roosts()
    users = roost.backend.deployment.client[roost.settings.database]["users"]
    await users.delete_many({"app_id": CONTROL_PLANE})
    again = await roosts(database=roost.settings.database)
    assert await users.count_documents({"app_id": CONTROL_PLANE}) == 0
    assert again.first_password is None


async def test_servers_that_start_at_once_make_one_control_plane(roosts: StartRoost) -> None:
    """CP-1: who comes second joins what the first has made."""
    database = f"t{secrets.token_hex(6)}"
    (first, *_) = await asyncio.gather(*(roosts(database=database) for _ in range(3)))
    users = first.backend.deployment.client[database]["users"]
    assert await users.count_documents({"app_id": CONTROL_PLANE}) == 1
    assert len([tenant async for tenant in first.backend.tenants.all() if tenant.is_control_plane]) == 1


async def test_a_database_has_no_second_control_plane(roosts: StartRoost) -> None:
    """CP-1: another id for the same database, or an app's id, stops the start with a sentence."""
    roost = await roosts()
    with pytest.raises(StartError, match="control plane is 'control_plane', not 'head-office'"):
        await roosts(database=roost.settings.database, control_plane="head-office")
    with pytest.raises(StartError, match="ordinary app"):
        await roosts(database=roost.settings.database, control_plane="acme")


async def test_the_first_password_is_printed_once(env: dict[str, str]) -> None:
    """The password that was made up is shown at the first start, logs in, and is shown never again."""
    ended = await run("tenants", "list", env=env)
    assert ended.code == 0
    assert "password" not in ended.out + ended.err
    async with serving(env=env) as server:
        lines = [line.split() for line in server.out]
        (password,) = [words[1] for words in lines if words[:1] == ["password"]]
        assert ["control", CONTROL_PLANE] in lines
        async with connect(server, CONTROL_PLANE) as client:
            login = {"strategy": "local", "username": "admin", "password": password}
            await client.call("create", "authentication", login)
    async with serving(env=env) as server:
        pass
    assert password not in "".join([*server.out, *server.err])
    assert not any(line.split()[:1] == ["password"] for line in server.out)


async def test_a_password_that_was_given_is_not_printed(env: dict[str, str]) -> None:
    """ROOST_ADMIN_PASSWORD is a secret."""
    given = {**env, "ROOST_ADMIN_USERNAME": "ada", "ROOST_ADMIN_PASSWORD": "a-password-of-mine"}
    async with serving(env=given) as server, rest(server, CONTROL_PLANE) as client:
        login = {"strategy": "local", "username": "ada", "password": "a-password-of-mine"}
        assert (await client.call("create", "authentication", login))["user"]["username"] == "ada"
    assert "a-password-of-mine" not in "".join([*server.out, *server.err])


async def test_a_password_that_cannot_be_one_stops_the_start(env: dict[str, str]) -> None:
    """The sentence names the settings."""
    ended = await run("serve", "--port", "0", env={**env, "ROOST_ADMIN_PASSWORD": "short"})
    assert ended.code == 1
    assert "ROOST_ADMIN_PASSWORD: The password must have 8 to 128 characters" in ended.err
