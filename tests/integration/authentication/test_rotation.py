"""Rotation of signing keys (LIMITS A2): new tokens by the new key, old ones until the overlap ends, live sockets too."""

from __future__ import annotations

import asyncio
import time

import jwt

from server.main import Roost
from tests.conftest import StartRoost
from tests.integration.authentication.people import (
    OPEN,
    by_refresh,
    is_in,
    is_out,
    log_in,
    refresh,
    sign_up,
    status,
    tenant_of,
)
from tests.integration.server.command import environment, run
from tests.support.client import connect, fresh, rest, until


async def rotate(roost: Roost, overlap: float) -> str:
    """Rotates the keys of `acme` as the command line does; the new key's id."""
    record = await roost.backend.keys.rotate("acme", overlap)
    await roost.backend.tenants.touch("acme")
    return record.kid


async def test_old_tokens_are_accepted_until_the_overlap_ends(roosts: StartRoost) -> None:
    roost = await roosts(OPEN)
    async with connect(roost, "acme") as ada, connect(roost, "acme") as bob, rest(roost, "acme") as http:
        name, _ = await sign_up(http)
        old = await log_in(ada, name, refresh=True)
        await bob.sign_up(fresh())
        kid = await rotate(roost, 3)
        rotated = time.monotonic()
        keys = roost.backend.keys
        await until(lambda: ring_knows(roost, kid))
        assert await status(http, old) == 200
        assert await is_in(ada)
        fresh_one = await log_in(http, name)
        assert jwt.get_unverified_header(fresh_one["accessToken"])["kid"] == kid
        assert len((await keys.jwks("acme"))["keys"]) == 2
        renewed = await refresh(bob, old["refreshToken"])

        await until(lambda: is_out(ada), 6.0)
        # The moment of retirement was set a little before the command came back.
        assert 1.5 < time.monotonic() - rotated < 4.0, "A2: within a second of the end"
        assert await is_in(bob), "whose token the new key has signed"
        assert ada.connected
        assert await status(http, old) == 401
        assert await status(http, fresh_one) == 200
        assert await status(http, renewed) == 200
        assert [key["kid"] for key in (await keys.jwks("acme"))["keys"]] == [kid]
        answer = await http.request("GET", "/.well-known/jwks.json?appId=acme")
        assert [key["kid"] for key in answer.json["keys"]] == [kid]


async def ring_knows(roost: Roost, kid: str) -> bool:
    """Whether the server has the key in memory."""
    ring = roost.backend.keys.ring("acme")
    return ring is not None and kid in ring.public


async def test_without_overlap_everybody_is_logged_out_within_a_second(roosts: StartRoost) -> None:
    roost = await roosts(OPEN)
    async with (
        connect(roost, "acme") as ada,
        connect(roost, "globex") as eve,
        rest(roost, "acme") as http,
    ):
        name, _ = await sign_up(http)
        await eve.sign_up(fresh())
        old = await log_in(ada, name, refresh=True)
        await rotate(roost, 0)
        await until(lambda: is_out(ada), 1.0)
        told = await ada.next_event()
        assert (told.name, told.record) == ("authentication removed", {"reason": "expired"})
        assert await status(http, old) == 401
        assert await is_in(eve), "another app's keys are others"
        again = await http.call("create", "authentication", by_refresh(old))
        assert await status(http, again) == 200, "refresh tokens are not signed by it"


async def test_a_key_that_was_to_be_kept_can_be_given_up_after_all(roosts: StartRoost) -> None:
    roost = await roosts(OPEN)
    async with connect(roost, "acme") as ada, rest(roost, "acme") as http:
        name, _ = await sign_up(http)
        old = await log_in(ada, name)
        keys = roost.backend.keys
        await keys.rotate("acme", 3600)
        assert await status(http, old) == 200
        await rotate(roost, 0)
        await until(lambda: is_out(ada), 1.0)
        assert await status(http, old) == 401
        await keys.rotate("acme", 3600)
        assert await status(http, old) == 401, "and a longer overlap brings nothing back"


async def test_a_server_that_starts_during_the_overlap_knows_its_end(roosts: StartRoost) -> None:
    first = await roosts(OPEN)
    async with rest(first, "acme") as http:
        name, _ = await sign_up(http)
        old = await log_in(http, name)
    await first.backend.keys.rotate("acme", 2.0)
    second = await roosts(OPEN, database=first.settings.database)
    async with connect(second, "acme") as ada:
        await ada.login_by(old["accessToken"])
        assert await is_in(ada)
        await until(lambda: is_out(ada), 4.0)


async def test_two_servers_sign_and_accept_each_others_tokens_after_a_rotation(roosts: StartRoost) -> None:
    here = await roosts(OPEN)
    there = await roosts(OPEN, database=here.settings.database)
    async with rest(here, "acme") as http, rest(there, "acme") as other:
        name, _ = await sign_up(http)
        before = await log_in(other, name)
        await here.backend.keys.rotate("acme", 3600)
        async with asyncio.timeout(3):
            assert await status(http, before) == 200
            new = await log_in(http, name)
            await until(lambda: accepted(there, new["accessToken"]))
            assert await status(other, new) == 200
            assert await status(other, before) == 200


async def accepted(roost: Roost, token: str) -> bool:
    """Whether the server has the token's key by now: an unknown one is looked for once a second."""
    kid = jwt.get_unverified_header(token)["kid"]
    return await roost.backend.keys.verification_key(tenant_of(roost, "acme").id, kid) is not None


async def test_the_command_rotates_at_a_running_server_and_lists_keys(mongod: str, roosts: StartRoost) -> None:
    roost = await roosts(OPEN)
    env = environment(mongod, roost.settings.database)
    async with connect(roost, "acme") as ada:
        await ada.sign_up(fresh())
        rotated = await run("keys", "rotate", "acme", "--overlap", "0", env=env)
        kid = rotated.out.split()[1]
        assert rotated.out == f"acme: {kid} signs from now on; older keys are accepted for 0 s\n", rotated.err
        await until(lambda: is_out(ada), 1.0)
    listed = (await run("keys", "list", "acme", env=env)).out.splitlines()
    assert [line.split("\t")[1] for line in listed] == ["verifying", "signing"]
    assert listed[1].startswith(kid)
    assert "until" in listed[0]
    assert "no end" in listed[1]
    missing = await run("keys", "rotate", "nobody", env=env)
    assert (missing.code, missing.err) == (1, "There is no tenant 'nobody'\n")
