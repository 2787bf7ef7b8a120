"""LIMITS.md A5 over the assembled server, by both transports: who is locked out, who is not, and what they are told."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from typing import Any

import pytest

from services.authentication.attempts import WINDOW
from tests.conftest import StartRoost
from tests.support.client import PASSWORD, Caller, CallError, connect, fresh, outcome, rest, until

HERE, THERE = "203.0.113.7", "198.51.100.9"
PROXIED = {"trusted_proxies": ("127.0.0.1",)}
APPS = """
tenants:
  - {id: acme}
  - {id: globex}
  - {id: quiet, auth: {username_field: email, enumeration: protected}}
"""


def login(name: str, password: str = PASSWORD) -> dict[str, Any]:
    return {"strategy": "local", "username": name, "password": password}


async def log_in(caller: Caller, name: str, password: str = PASSWORD) -> Any:
    return await outcome(caller, "create", "authentication", login(name, password))


async def test_a5_a_locked_account_answers_like_a_wrong_password_but_not_to_others(roosts: StartRoost) -> None:
    roost = await roosts(APPS, **PROXIED)
    name, nobody = fresh("ada"), fresh("nobody")
    async with (
        rest(roost, "acme", **{"X-Forwarded-For": HERE}) as attacker,
        connect(roost, "acme", headers={"X-Forwarded-For": HERE}) as socket,
        rest(roost, "acme", **{"X-Forwarded-For": THERE}) as owner,
    ):
        await owner.call("create", "users", {"username": name, "password": PASSWORD})
        for _ in range(10):
            wrong = await log_in(attacker, name, "wrong-password")
            await log_in(attacker, nobody, "wrong-password")
        assert (wrong.code, wrong.message) == (401, "Invalid login")
        right = await log_in(attacker, name)
        assert right.wire == wrong.wire
        assert (await log_in(attacker, nobody)).wire == wrong.wire
        assert (await log_in(socket, name)).wire == wrong.wire
        assert isinstance(await outcome(socket, "find", "users", {}), CallError), "it is not logged in either"
        assert (await log_in(owner, name))["user"]["username"] == name


async def test_a5_an_address_that_goes_on_waits_and_keeps_its_token(roosts: StartRoost) -> None:
    roost = await roosts(APPS, address_failures=3)
    async with connect(roost, "acme") as socket, rest(roost, "acme") as http, rest(roost, "globex") as other:
        await socket.sign_up(fresh("ada"))
        for n in range(4):
            assert (await log_in(http, f"name-{n}")).code == 401
        for caller in (socket, http):
            error = await log_in(caller, "another")
            assert (error.code, error.name, error.data) == (429, "TooManyRequests", {"retry_after": 1})
        await socket.call("find", "users", {})
        assert await socket.login_by(socket.token)
        assert (await log_in(other, "another")).code == 401, "another app does not feel it"


async def test_a_success_resets_the_count(roosts: StartRoost) -> None:
    roost = await roosts(APPS, name_failures=3)
    name = fresh("ada")
    async with rest(roost, "acme") as client:
        await client.call("create", "users", {"username": name, "password": PASSWORD})
        for _ in range(3):
            for _ in range(2):
                assert (await log_in(client, name, "wrong-password")).code == 401
            assert "accessToken" in await log_in(client, name)


async def test_an_address_is_not_believed_from_just_anybody(roosts: StartRoost) -> None:
    roost = await roosts(APPS, address_failures=3)
    async with rest(roost, "acme") as client:
        codes = [
            (
                await client.request("POST", "/authentication", login("x"), headers={"X-Forwarded-For": f"192.0.2.{n}"})
            ).status
            for n in range(6)
        ]
    assert codes == [401, 401, 401, 401, 429, 429]


async def test_names_that_are_taken_cannot_be_tried_out_for_ever(roosts: StartRoost) -> None:
    roost = await roosts(APPS, name_failures=3)
    user = {"username": fresh("ada"), "password": PASSWORD}
    async with rest(roost, "acme") as client:
        await client.call("create", "users", user)
        codes = [(await client.request("POST", "/users", user)).status for _ in range(5)]
        assert codes == [409, 409, 409, 429, 429]
        assert "accessToken" in await log_in(client, user["username"]), "that is no failed login"


@pytest.mark.parametrize("is_known", [True, False])
async def test_resets_are_counted_alike_whoever_exists(roosts: StartRoost, is_known: bool) -> None:
    roost = await roosts(APPS, name_failures=3)
    email = "ada@example.com"
    async with rest(roost, "quiet") as client:
        if is_known:
            await client.call("create", "users", {"email": email, "password": PASSWORD})
        ask = {"action": "reset-request", "email": email}
        replies = [await client.request("POST", "/accounts", ask) for _ in range(5)]
    assert [reply.status for reply in replies] == [201, 201, 201, 429, 429]
    assert replies[-1].json["data"] == {"retry_after": pytest.approx(900, abs=5)}


async def test_tokens_and_the_own_password_cannot_be_guessed_for_ever(roosts: StartRoost) -> None:
    roost = await roosts(APPS, name_failures=3, address_failures=6)
    async with rest(roost, "acme") as client:
        await client.sign_up(fresh("ada"))
        change = {"action": "change-password", "currentPassword": "wrong-password", "password": "another-secret-9"}
        codes = [(await client.request("POST", "/accounts", change)).status for _ in range(4)]
        assert codes == [400, 400, 400, 429]
        reset = {"action": "reset", "token": "no-such-token", "password": "another-secret-9"}
        codes = [(await client.request("POST", "/accounts", reset)).status for _ in range(5)]
        assert codes == [400, 400, 400, 400, 429]


async def test_a5_a_thousand_addresses_are_slowed_and_the_owner_gets_in(roosts: StartRoost) -> None:
    """A5: the numbers are 10 and 100 in 15 minutes; distributed over 1,000 addresses it is still the name that slows them."""
    roost = await roosts(APPS, **PROXIED)
    assert (roost.settings.name_failures, roost.settings.address_failures, WINDOW) == (10, 100, 900)
    name = fresh("ada")
    codes: Counter[int] = Counter()
    async with rest(roost, "acme") as client:
        await client.call("create", "users", {"username": name, "password": PASSWORD})
        began = time.monotonic()
        for n in range(1000):
            headers = {"X-Forwarded-For": f"198.18.{n // 250}.{n % 250 + 1}"}
            reply = await client.request("POST", "/authentication", login(name, "wrong-password"), headers=headers)
            codes[reply.status] += 1
        took = time.monotonic() - began
        assert {*codes} == {401, 429}
        # Ten, and then one after 1, 2, 4 ... s.
        assert codes[401] <= 10 + 2 + math.log2(took + 1)

        async def get_in() -> bool:
            headers = {"X-Forwarded-For": THERE}
            return (await client.request("POST", "/authentication", login(name), headers=headers)).status == 201

        await until(get_in, 2 * took + 5)


async def test_a5_the_hundredth_failure_of_an_address_is_its_last_at_once(roosts: StartRoost) -> None:
    """A5: 100 per (tenant, address), whatever names it tries; then it waits, by either transport, and others do not."""
    roost = await roosts(APPS, **PROXIED)
    async with (
        rest(roost, "acme", **{"X-Forwarded-For": HERE}) as attacker,
        connect(roost, "acme", headers={"X-Forwarded-For": HERE}) as socket,
        rest(roost, "acme", **{"X-Forwarded-For": THERE}) as other,
    ):
        codes: Counter[int] = Counter()
        for some in range(0, 110, 10):
            errors = await asyncio.gather(*(log_in(attacker, f"name-{n}") for n in range(some, some + 10)))
            codes.update(error.code for error in errors)
        assert codes[401] in (100, 101)
        assert codes[429] == 110 - codes[401]
        assert (await log_in(socket, "another")).code == 429
        assert (await log_in(other, "another")).code == 401
