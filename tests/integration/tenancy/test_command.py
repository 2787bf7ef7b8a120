"""The configuration of an app by the command line, beside a running server."""

from __future__ import annotations

from tests.conftest import StartRoost
from tests.integration.server.command import environment, run
from tests.support.client import handshake, rest, until


async def test_an_app_is_configured_while_it_is_served(mongod: str, roosts: StartRoost) -> None:
    """TC-1, TC-8, TC-11, TC-12: the switch, a change that is only tried, one that is wrong, and the public keys."""
    roost = await roosts()
    env = environment(mongod, roost.settings.database)

    tried = await run("tenants", "set", "acme", "is_active", "false", "--dry-run", env=env)
    assert (tried.code, tried.out) == (0, "acme: is_active would be changed\n"), tried.err
    async with rest(roost, "acme") as client:
        assert (await client.request("GET", "/notes")).status == 200
    wrong = await run("tenants", "set", "acme", "allowed_origins", '["*"]', env=env)
    assert wrong.code == 1
    assert "allowed_origins.0: must be scheme://host" in wrong.err
    assert (await run("tenants", "set", "nope", "plan", "large", env=env)).code == 1

    changed = await run("tenants", "set", "acme", "is_active", "false", env=env)
    assert (changed.code, changed.out) == (0, "acme: is_active changed\n"), changed.err

    async def is_off() -> bool:
        return (await handshake(roost, "appId=acme"))[0] == "refused"

    await until(is_off)
    assert (await run("tenants", "set", "acme", "is_active", "false", env=env)).out == "acme: is_active unchanged\n"

    (old,) = (await run("tenants", "public-keys", "globex", env=env)).out.split()
    new, before = (await run("tenants", "public-keys", "globex", "--rotate", env=env)).out.split()
    assert (before, new != old) == (old, True)

    async def is_known() -> bool:
        return (await handshake(roost, f"tenant={new}"))[0] == "connect"

    await until(is_known)
    assert (await handshake(roost, f"tenant={old}"))[0] == "connect"
