"""Sessions and other servers: what one of them ends, the others end too."""

from __future__ import annotations

import asyncio

import pytest

from server.main import Roost
from services.channels import AUTHENTICATED
from services.control.changes import Change
from tests.conftest import StartRoost
from tests.integration.authentication.people import (
    OPEN,
    bearer,
    is_in,
    is_out,
    log_in,
    refused,
    sign_up,
    status,
)
from tests.support.client import connect, fresh, rest, until


async def test_a_tenant_without_the_strategy_gives_no_refresh_tokens(roosts: StartRoost) -> None:
    roost = await roosts("tenants: [{id: acme, auth: {strategies: [local, jwt]}}]")
    async with rest(roost, "acme") as http:
        name, _ = await sign_up(http)
        assert "refreshToken" not in await log_in(http, name, refresh=True)
        error = await refused(http, "create", "authentication", {"strategy": "refresh", "refreshToken": "x"})
        assert (error.code, error.message[-34:]) == (401, "(strategy not allowed in authStrategies)"[-34:])


async def both(roosts: StartRoost) -> tuple[Roost, Roost]:
    """Two servers over one database."""
    first = await roosts(OPEN)
    return first, await roosts(OPEN, database=first.settings.database)


async def test_no_app_waits_for_what_changes_of_another_take(
    roosts: StartRoost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TK-9: an app whose changes take long, as when thousands are connected to it, delays no log-out of another."""
    here, there = await both(roosts)
    hear, held = there.people.logins.hear, asyncio.Event()

    async def hear_slowly(change: Change) -> None:
        if change.app_id == "globex":
            await held.wait()
        await hear(change)

    monkeypatch.setattr(there.people.changes, "_listener", hear_slowly)
    async with rest(here, "globex") as eve, rest(here, "acme") as desk, connect(there, "acme") as phone:
        name, _ = await sign_up(desk)
        desk.headers["Authorization"] = f"Bearer {(await log_in(desk, name))['accessToken']}"
        await phone.login(name)
        user = await eve.sign_up(fresh())
        await eve.call("patch", "users", user["_id"], {"nick": "new"})
        await desk.call("remove", "sessions", None, {})
        await until(lambda: is_out(phone))
        held.set()


async def test_another_server_logs_out_too(roosts: StartRoost) -> None:
    here, there = await both(roosts)
    async with (
        connect(here, "acme") as desk,
        connect(there, "acme") as phone,
        connect(there, "acme") as tablet,
        rest(there, "acme") as http,
    ):
        name, _ = await sign_up(desk)
        await log_in(desk, name)
        answer = await log_in(phone, name)
        await log_in(tablet, name)
        assert await status(http, answer) == 200
        await desk.call("remove", "sessions", answer["authentication"]["payload"]["sid"], {})
        await until(lambda: is_out(phone), 1.0)  # A9: within a second, on other servers too
        assert await status(http, answer) == 401
        assert await is_in(tablet)
        await desk.call("remove", "sessions", None, {})
        await until(lambda: is_out(tablet), 1.0)


async def test_a_server_that_hears_of_nothing_believes_a_session_for_five_seconds_at_most(roosts: StartRoost) -> None:
    here, there = await both(roosts)
    await there.people.changes.stop()
    async with rest(here, "acme") as http, rest(there, "acme") as deaf:
        name, _ = await sign_up(http)
        answer = await log_in(http, name)
        assert await status(deaf, answer) == 200
        await http.request("DELETE", "/sessions", headers=bearer(answer))
        assert await status(http, answer) == 401
        # `tokens_valid_after` is read with the user at each call.
        assert await status(deaf, answer) == 401

        answer = await log_in(http, name)
        assert await status(deaf, answer) == 200
        id = answer["authentication"]["payload"]["sid"]
        await http.request("DELETE", f"/sessions/{id}", headers=bearer(answer))
        assert await status(deaf, answer) == 200, "still believed"
        there.people.ledger._recent._fresh = 0.0
        assert await status(deaf, answer) == 401


async def test_a_server_that_was_deaf_looks_at_all_its_logins_again(roosts: StartRoost) -> None:
    here, there = await both(roosts)
    await there.people.changes.stop()
    async with connect(here, "acme") as desk, connect(there, "acme") as phone, connect(there, "acme") as bob:
        name, user = await sign_up(desk)
        await log_in(desk, name)
        await log_in(phone, name)
        await bob.sign_up(fresh())
        await desk.call("remove", "sessions", None, {})
        assert await is_in(phone)
        there.people.ledger._recent._fresh = 0.0
        await there.people.logins.review()
        assert await is_out(phone)
        assert await is_in(bob)
        members = [*there.app.channels.members("acme", [AUTHENTICATED])]
        assert [member.user is not None and member.user["_id"] != user["_id"] for member in members] == [True]
