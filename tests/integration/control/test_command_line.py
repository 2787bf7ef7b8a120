"""`tenants` at the command line: it does what the services do, beside a running server (TENANCY CP-16, CP-25, CP-27)."""

from __future__ import annotations

import json

from server.main import Roost
from tests.integration.control.managers import make, state
from tests.integration.server.command import environment, run
from tests.support.client import connect


async def test_suspend_resume_and_delete_beside_a_running_server(roost: Roost, mongod: str) -> None:
    """CP-20, CP-25, CP-27: sockets of the server hear of it; a deletion wants to be confirmed; JSON for programs."""
    env = environment(mongod, roost.settings.database)
    await make(roost, "initech", name="Initech")
    async with connect(roost, "initech") as client:
        ended = await run("tenants", "suspend", "initech", env=env)
        assert (ended.code, ended.out) == (0, "initech: suspended\n"), ended.err
        assert "initech  suspend  succeeded" in ended.err
        assert (await client.next_event()).name == "tenant:unavailable"
        await client.gone()
    again = await run("tenants", "suspend", "initech", env=env)
    assert (again.code, again.err) == (1, "The app 'initech' is suspended\n")
    shown = await run("tenants", "show", "initech", "--json", env=env)
    assert json.loads(shown.out)["status"] == "suspended"
    unconfirmed = await run("tenants", "delete", "initech", env=env)
    assert unconfirmed.code == 1
    assert "--confirm initech" in unconfirmed.err
    assert await state(roost, "initech") == "suspended"
    deleted = await run("tenants", "delete", "initech", "--confirm", "initech", "--json", env=env)
    assert deleted.code == 0, deleted.err
    assert json.loads(deleted.out)["state"] == "succeeded"
    assert await state(roost, "initech") is None
    listed = await run("tenants", "operations", "initech", env=env)
    assert [line.split("\t")[2:4] for line in listed.out.splitlines()] == [
        ["delete", "succeeded"],
        ["suspend", "succeeded"],
        ["provision", "succeeded"],
    ]
    plane = await run("tenants", "delete", "control_plane", "--confirm", "control_plane", env=env)
    assert (plane.code, plane.err) == (1, "Cannot delete the control plane\n")
