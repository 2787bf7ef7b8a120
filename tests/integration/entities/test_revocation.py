"""TENANCY TK-9: what is revoked at one server is revoked at another within five seconds, with or without a change stream."""

from __future__ import annotations

import asyncio

from server.main import Roost
from services.entities.registry import MEMBERS, ORGANIZATIONS, ROLE_PERMISSIONS
from tests.conftest import StartRoost
from tests.integration.entities.people import APPS, HUB, NORTH, make_person, tenant_of
from tests.integration.server.command import environment, serving
from tests.support.client import CallError, Client, connect, outcome, rest, until

BOUND = 5.0


async def manager_of(roost: Roost) -> tuple[str, str, str]:
    """Somebody who is a member of the north's organization with one role: name, the ids of the membership and the role."""
    name, user_id = await make_person(roost, HUB)
    entities, hub = roost.people.entities, tenant_of(roost, HUB)
    org = await entities.first(hub, ORGANIZATIONS, {"tenant_id": NORTH})
    assert org is not None
    root_name, _ = await make_person(roost, HUB, "tenant:admin")
    async with rest(roost, HUB) as root:
        await root.login(root_name)
        role = await root.call("create", "roles", {"name": f"role-of-{user_id}"})
        triple = {"rs_identifier": "management", "permission": "read:roles"}
        await root.call("create", f"roles/{role['_id']}/permissions", triple)
        data = {"org_id": str(org["_id"]), "user_id": user_id, "roles": [role["_id"]]}
        member = await root.call("create", "members", data)
    return name, member["_id"], role["_id"]


async def may(client: Client, path: str) -> bool:
    return not isinstance(await outcome(client, "find", path), CallError)


async def test_a_process_hears_of_what_another_revokes(roosts: StartRoost, mongod: str) -> None:
    """TK-9: two processes; a role given and taken changes the socket of the other in place, a removal disconnects it."""
    here = await roosts(APPS)
    name, member_id, role_id = await manager_of(here)
    variables = environment(mongod, here.settings.database)
    async with serving(env=variables) as there, connect(there, HUB) as max_, rest(there, HUB) as http:
        await max_.login(name)
        await max_.call("create", "authentication", {"strategy": "organization", "organization": NORTH})
        await http.login(name)
        answer = await http.call("create", "authentication", {"strategy": "organization", "organization": NORTH})
        bearer = {"Authorization": f"Bearer {answer['accessToken']}", "x-app-id": NORTH}
        assert await may(max_, "roles")
        assert not await may(max_, "clients")
        assert (await http.request("GET", "/roles", headers=bearer)).status == 200

        hub = tenant_of(here, HUB)
        triple = {"role_id": role_id, "rs_identifier": "management", "permission": "read:clients"}
        await here.people.entities.add(hub, ROLE_PERMISSIONS, triple)
        await until(lambda: may(max_, "clients"), BOUND)
        reply = await http.request("GET", "/roles", headers=bearer)
        assert (reply.status, reply.json["data"]["reason"]) == (401, "token_stale")

        await here.people.entities.of(hub, MEMBERS).delete_many({"_id": member_id})
        async with asyncio.timeout(BOUND):
            await max_.gone()
        assert max_.events[-1].record == {"reason": "not_a_member"}
        reply = await http.request("GET", "/roles", headers=bearer)
        assert (reply.status, reply.json["data"]["reason"]) == (403, "not_a_member")


async def test_without_a_change_stream_everything_is_looked_at_again(roosts: StartRoost) -> None:
    """TK-9: a node that hears of nothing looks at all logins anew, which is what it does every five seconds."""
    here = await roosts(APPS)
    there = await roosts(APPS, database=here.settings.database)
    name, member_id, _ = await manager_of(here)
    async with connect(there, HUB) as max_:
        await max_.login(name)
        await max_.call("create", "authentication", {"strategy": "organization", "organization": NORTH})
        await there.people.changes.stop()
        await here.people.entities.of(tenant_of(here, HUB), MEMBERS).delete_many({"_id": member_id})
        assert await may(max_, "roles"), "nobody has told of it"
        await there.people.logins.review()
        await max_.gone()
