"""PT-4, LIMITS T2: tokens that were edited, or good for another tenant, an older membership, or a tenant that is gone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import jwt
import pytest
import pytest_asyncio

from server.main import Roost
from tests.conftest import StartRoost
from tests.integration.control.managers import delete, make
from tests.integration.entities.managers import at_home, make_manager, switch
from tests.integration.entities.people import HUB, NORTH, SOUTH, administrator, make_person
from tests.support.client import CallError, connect, handshake, outcome, rest
from tests.support.roost import start_roost
from tests.unit.authentication.forgeries import Forger

pytestmark = pytest.mark.asyncio(loop_scope="module")
CANARY = "northern-lights"
_APP = """
    auth: {username_field: email}
    services: {notes: {rules: {default: public}}, diary: {rules: {default: authenticated}}}
"""
APPS = f"tenants:\n  - id: {NORTH}{_APP}  - id: {SOUTH}{_APP}"


@dataclass(frozen=True)
class People:
    """The north's administrator and the south's: their tokens, and who could sign in the name of each tenant."""

    roost: Roost
    north: Forger
    south: Forger
    hub: Forger


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def people(mongod: str) -> AsyncIterator[People]:
    """A server with a record to be kept in the north."""
    roost = await start_roost(mongod, APPS)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(roost.drop)
        forgers = []
        for app, other in ((NORTH, SOUTH), (SOUTH, NORTH), (HUB, NORTH)):
            field = "username" if app == HUB else "email"
            name, _ = await make_person(roost, app, "tenant:admin")
            async with rest(roost, app) as http:
                answer = await http.login(name, field=field)
                if app == NORTH:
                    await http.call("create", "diary", {"text": CANARY})
            claims = answer["authentication"]["payload"]
            [own], [foreign] = await roost.backend.keys.records(app), await roost.backend.keys.records(other)
            signing = await roost.backend.keys.signing_key(app)
            forgers.append(Forger(signing, own, foreign, answer["accessToken"], claims))
        yield People(roost, *forgers)


def edited(people: People) -> dict[str, str]:
    """Tokens by what was done to them: whoever holds the south's key, or the control plane's, would be in the north."""
    south, hub = people.south, people.hub
    north = people.north.payload
    header = {"kid": people.north.own.kid}
    return {
        "tid of the north": south.sign({**south.payload, "tid": NORTH}),
        "tid and app_id of the north": south.sign({**south.payload, "tid": NORTH, "app_id": NORTH}),
        "all claims of the north": south.sign(north),
        "all claims of the north, and its kid": south.sign(north, header),
        "iss of the control plane": south.sign({**south.payload, "tid": NORTH, "app_id": HUB}),
        "the control plane's user, for the north": hub.sign({**hub.payload, "tid": NORTH}),
        "signature of another token": people.north.token.rsplit(".", 1)[0] + "." + south.token.rsplit(".", 1)[1],
        "payload of another token": _spliced(south.token, people.north.token),
        "good for the south": south.token,
        "good for the control plane": hub.token,
    }


def _spliced(signed: str, told: str) -> str:
    head, _, signature = signed.split(".")
    return f"{head}.{told.split('.')[1]}.{signature}"


NAMES = (
    "tid of the north",
    "tid and app_id of the north",
    "all claims of the north",
    "all claims of the north, and its kid",
    "iss of the control plane",
    "the control plane's user, for the north",
    "signature of another token",
    "payload of another token",
    "good for the south",
    "good for the control plane",
)


@pytest.mark.parametrize("name", NAMES)
async def test_an_edited_token_opens_nothing(people: People, name: str) -> None:
    """PT-4: swapped `tid`, another tenant's signature: at each door 401, or 403 for a good token of another app."""
    token = edited(people)[name]
    assert {*edited(people)} == {*NAMES}
    login = {"strategy": "jwt", "accessToken": token}
    async with rest(people.roost, NORTH) as http, connect(people.roost, NORTH) as socket:
        assert (await http.request("GET", "/diary", headers={"Authorization": f"Bearer {people.north.token}"})).json[
            "data"
        ], "the north's own token opens it"
        answers: list[Any] = [
            await outcome(http, "create", "authentication", login),
            await outcome(socket, "create", "authentication", login),
            await outcome(socket, "create", "authentication", {**login, "strategy": "organization"}),
            await outcome(socket, "find", "diary"),
        ]
        for verb, path in (("GET", "/diary"), ("POST", "/diary"), ("GET", "/users"), ("GET", "/roles")):
            sent = {"Authorization": f"Bearer {token}"}
            reply = await http.request(verb, path, {"text": "x"} if verb == "POST" else None, headers=sent)
            assert reply.status in (401, 403)
            answers.append(CallError(reply.json))
    assert (await handshake(people.roost, f"appId={NORTH}", headers={"Authorization": token}))[0] != "connect"
    assert {answer.code for answer in answers} <= {400, 401, 403}
    assert CANARY not in json.dumps([answer.wire for answer in answers])
    if name.startswith("good for"):
        assert {answer.code for answer in answers[:2]} == {403}
        assert {answer.data["reason"] for answer in answers[:2]} == {"TenantMismatch"}
    else:
        assert {answer.code for answer in answers[:2]} == {401}, "an edited token is no token"


@pytest.mark.parametrize("transport", ["socket", "http"])
async def test_a_token_of_an_older_membership(people: People, transport: str) -> None:
    """PT-4: `mv` from before a role changed is stale; after the removal it is nobody's; nor does it help elsewhere."""
    manager = await make_manager(people.roost, "read:roles")
    async with at_home(people.roost, transport, manager) as max_, administrator(people.roost, HUB) as ada:
        token = (await switch(max_, NORTH))["accessToken"]
        claims = jwt.decode(token, options={"verify_signature": False})
        bearer = {"Authorization": f"Bearer {token}"}
        async with rest(people.roost, NORTH) as http, rest(people.roost, SOUTH) as elsewhere:
            assert (await http.request("GET", "/roles", headers=bearer)).status == 200
            reply = await elsewhere.request("GET", "/roles", headers=bearer)
            assert (reply.status, reply.json["data"]["reason"]) == (403, "TenantMismatch")
            mine = {"tid": SOUTH, "org_name": SOUTH}
            forged = {"Authorization": f"Bearer {people.south.sign({**claims, **mine})}"}
            assert (await elsewhere.request("GET", "/roles", headers=forged)).status == 401

            triple = {"rs_identifier": "management", "permission": "read:clients"}
            await ada.call("create", f"roles/{manager.role_id}/permissions", triple)
            reply = await http.request("GET", "/roles", headers=bearer)
            assert (reply.status, reply.json["data"]["reason"]) == (401, "token_stale")
            renewed = people.hub.sign({**claims, "mv": "new"})
            reply = await http.request("GET", "/roles", headers={"Authorization": f"Bearer {renewed}"})
            assert reply.status in (401, 403)

            await ada.call("remove", "members", manager.member_id)
            reply = await http.request("GET", "/roles", headers=bearer)
            assert (reply.status, reply.json["data"]["reason"]) == (403, "not_a_member")


async def test_a_token_of_a_tenant_that_is_gone(people: People) -> None:
    """PT-4: it opens nothing where it was good, nothing elsewhere, and names no tenant."""
    roost = people.roost
    await make(roost, "gone", auth={"username_field": "email"})
    name, _ = await make_person(roost, "gone", "tenant:admin")
    async with rest(roost, "gone") as http:
        token = (await http.login(name, field="email"))["accessToken"]
        assert (await http.request("GET", "/users")).status == 200
    await delete(roost, "gone")
    bearer = {"Authorization": f"Bearer {token}"}
    async with rest(roost, "gone") as http:
        assert (await http.request("GET", "/users", headers=bearer)).status in (401, 403, 404)
    for app in (NORTH, SOUTH, HUB):
        async with rest(roost, app) as http, connect(roost, app) as socket:
            reply = await http.request("GET", "/users", headers=bearer)
            assert reply.status in (401, 403)
            login = {"strategy": "jwt", "accessToken": token}
            assert (await outcome(socket, "create", "authentication", login)).code in (401, 403)
    async with rest(roost, None) as nameless:
        assert (await nameless.request("GET", "/users", headers=bearer)).status in (400, 401, 403, 404)


@pytest.mark.asyncio(loop_scope="function")
async def test_hosts_and_headers_of_another_tenant(roosts: StartRoost) -> None:
    """PT-4: a token decides; a host, a header, a public key or a query that names another tenant is a contradiction."""
    roost = await roosts(APPS, base_hosts=("probed.example",))
    async with rest(roost, SOUTH, Host="probed.example") as http:
        await http.call("create", "users", {"email": "sue@s.example", "password": "secret-123"})
        await http.login("sue@s.example", field="email")
        bearer = {"Authorization": http.headers["Authorization"]}
    async with rest(roost, NORTH, Host="probed.example") as http:
        await http.call("create", "users", {"email": "nora@n.example", "password": "secret-123"})
        await http.login("nora@n.example", field="email")
        await http.call("create", "diary", {"text": CANARY})
        await http.call("create", "notes", {"text": CANARY})
    north = await roost.backend.tenants.get(NORTH)
    assert north is not None
    ways: list[tuple[str, dict[str, str]]] = [
        ("", {"Host": "north.probed.example"}),
        ("", {"Host": "probed.example", "x-app-id": NORTH}),
        ("", {"Host": "south.probed.example", "x-app-id": NORTH}),
        ("", {"Host": "north.probed.example", "x-app-id": SOUTH}),
        ("", {"Host": "probed.example", "X-Tenant-ID": north.public_keys[0]}),
        (f"?tenant={north.public_keys[0]}", {"Host": "probed.example"}),
        (f"?tenant={north.public_keys[0]}", {"Host": "south.probed.example"}),
    ]
    async with rest(roost, None) as http:
        for query, headers in ways:
            for path in ("/diary", "/notes"):
                reply = await http.request("GET", path + query, headers={**headers, **bearer})
                assert reply.status in (400, 403), (query, headers, path)
                assert CANARY not in reply.body.decode()
        own = {"Host": "south.probed.example", **bearer}
        assert (await http.request("GET", "/diary", headers=own)).json["total"] == 0
        for forwarded in ("X-Forwarded-Host", "Forwarded", "X-Original-Host", "X-Host"):
            reply = await http.request("GET", "/diary", headers={**own, forwarded: "north.probed.example"})
            assert (reply.status, reply.json["total"]) == (200, 0)
