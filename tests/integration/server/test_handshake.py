"""FEATHERS.md 2.1, 2.6: who is let in, as whom, and what those are told who are not."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from server.main import Roost
from services.authentication.tokens import Tokens
from tests.conftest import StartRoost
from tests.support.client import connect, fresh, handshake, outcome, rest, wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

each_transport = pytest.mark.parametrize("transport", ["websocket", "polling"])
FRIEND = "http://localhost:3030"


@dataclass(frozen=True)
class Refusal:
    """A handshake, and the code and words of the answer."""

    name: str
    query: str
    code: int
    words: str
    auth: Any = None
    headers: dict[str, str] = field(default_factory=dict)


REFUSALS = [
    Refusal("no app", "", 400, "No app is named"),
    Refusal("an empty app", "appId=", 400, "No app is named"),
    Refusal("another spelling", "appid=acme", 400, "No app is named"),
    Refusal("an unknown app", "appId=nope", 404, "Unknown app 'nope'"),
    Refusal("a name that none can have", "appId=A%00cme", 404, "Unknown app"),
    Refusal("an operator", "appId[$ne]=x", 400, "No app is named"),
    Refusal("a joined list", "appId=acme,globex", 404, "Unknown app"),
    Refusal("a very long name", f"appId={'a' * 2000}", 404, "Unknown app"),
    Refusal("the app twice", "appId=acme&appId=acme", 400, "twice"),
    Refusal("two apps", "appId=acme&appId=globex", 400, "twice"),
    Refusal("auth disagrees", "appId=acme", 400, "Different apps", auth={"appId": "globex"}),
    Refusal("auth names no text", "appId=acme", 400, "No app is named", auth={"appId": {"$ne": ""}}),
    Refusal("auth names an unknown app", "", 404, "Unknown app", auth={"appId": "nope"}),
    Refusal("the header disagrees", "appId=acme", 400, "Different apps", headers={"x-app-id": "globex"}),
    Refusal("a token that is none", "appId=acme", 401, "jwt malformed", headers={"Authorization": "Bearer x"}),
    Refusal("a bare token that is none", "appId=acme", 401, "jwt malformed", headers={"Authorization": "x"}),
    Refusal("a token of three dots", "appId=acme", 401, "invalid token", headers={"Authorization": "JWT a.b.c"}),
]


@each_transport
@pytest.mark.parametrize("row", REFUSALS, ids=lambda row: row.name)
async def test_who_is_refused_is_told_why(shared: Roost, row: Refusal, transport: str) -> None:
    auth = "" if row.auth is None else json.dumps(row.auth)

    kind, payload = await handshake(shared, row.query, transport=transport, headers=row.headers, auth=auth)

    assert kind == "refused"
    assert row.words in payload["message"]
    assert payload["data"]["code"] == row.code
    assert payload["data"]["message"] == payload["message"]
    assert payload["data"]["name"]
    assert payload["data"]["className"]


STRANGERS = [
    ("a foreign origin", "http://evil.example"),
    ("an origin of nobody", "null"),
    ("an origin that begins alike", FRIEND + ".evil.example"),
    ("an origin that ends alike", "http://evil-localhost:3030"),
    ("an origin with another port", "http://localhost:3031"),
    ("an origin with another scheme", "https://localhost:3030"),
    ("an origin in capitals", "http://LOCALHOST:3030"),
    ("an origin with a user", "http://localhost:3030@evil"),
]


@each_transport
@pytest.mark.parametrize("origin", [row[1] for row in STRANGERS], ids=[row[0] for row in STRANGERS])
async def test_a_page_that_is_not_listed_does_not_get_in(shared: Roost, origin: str, transport: str) -> None:
    """TC-7: it is turned away before the engine."""
    headers = {"Origin": origin}
    assert await handshake(shared, "appId=acme", transport=transport, headers=headers) == ("turned away", 403)


@each_transport
async def test_a_page_of_another_app_does_not_get_in(shared: Roost, transport: str) -> None:
    """TC-7."""
    headers = {"Origin": FRIEND}
    assert await handshake(shared, "appId=globex", transport=transport, headers=headers) == ("turned away", 403)


async def test_a_page_is_refused_where_the_app_is_named_too_late_for_the_door(shared: Roost) -> None:
    """TC-7: what names the app comes with CONNECT alone."""
    kind, payload = await handshake(shared, "", headers={"Origin": FRIEND}, auth='{"appId": "globex"}')
    assert (kind, payload["data"]["data"]) == ("refused", {"reason": "OriginNotAllowed"})
    assert (await handshake(shared, "", headers={"Origin": FRIEND}, auth='{"appId": "acme"}'))[0] == "connect"


@each_transport
async def test_two_origins_are_one_too_many(shared: Roost, transport: str) -> None:
    headers = CIMultiDict([("Origin", FRIEND), ("Origin", FRIEND)])

    assert await handshake(shared, "appId=acme", transport=transport, headers=headers) == ("turned away", 403)


@pytest.mark.parametrize(
    ("query", "origins", "past"),
    [
        ("appId=acme", [], True),
        ("", [], True),
        ("appId=acme", [FRIEND], True),
        ("appId=acme", ["http://evil.example"], False),
        ("appId=acme", [FRIEND, FRIEND], False),
        ("appId=globex", [FRIEND], False),
        ("appId=acme&appId=acme", [FRIEND], False),
        ("appId=acme&tenant=pk", [FRIEND], False),
        ("appId=nobody", [FRIEND], False),
        ("", [FRIEND], False),
    ],
)
async def test_which_handshakes_need_not_be_asked_before_the_engine(
    shared: Roost, query: str, origins: list[str], past: bool
) -> None:
    """A page goes past HTTP when its tenant is known and lists it; all others are asked, and refused in words, there."""
    headers = CIMultiDict([("Origin", origin) for origin in origins])
    request = make_mocked_request("GET", f"/socket.io/?EIO=4&transport=websocket&{query}", headers=headers)
    assert shared.entrance.door.is_open(request) is past


@pytest.mark.parametrize(("origin", "allowed"), [(FRIEND, True), ("http://evil.example", False), ("null", False)])
async def test_a_page_may_poll_if_an_app_lists_its_origin(shared: Roost, origin: str, allowed: bool) -> None:
    """Clients begin with polling, and a browser shows them no answer without the header."""
    path = "/socket.io/?EIO=4&transport=polling&appId=acme"
    async with rest(shared, None, Origin=origin) as page:
        opened = await page.request("GET", path)
        asked = await page.request(
            "OPTIONS",
            path,
            headers={"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"},
        )
        for reply in (opened, asked):
            assert reply.headers.get("Access-Control-Allow-Origin") == (origin if allowed else None)
        assert ("authorization" in asked.headers.get("Access-Control-Allow-Headers", "")) is allowed
    async with rest(shared, None) as program:
        assert "Access-Control-Allow-Origin" not in (await program.request("GET", path)).headers


ACCEPTED: list[Any] = [
    ("the query", "appId=acme", "", {}),
    ("auth alone", "", '{"appId": "acme"}', {}),
    ("the header alone", "", "", {"x-app-id": "acme"}),
    ("all three", "appId=acme", '{"appId": "acme"}', {"x-app-id": "acme"}),
    ("auth of another kind", "appId=acme", '{"token": 5}', {}),
    ("auth that is a list", "appId=acme", "[1]", {}),
    ("further keys", "appId=acme&x=1&x=2", "", {}),
    ("its own origin", "appId=acme", "", {"Origin": FRIEND}),
    ("a scheme that is no token", "appId=acme", "", {"Authorization": "Basic YTpi"}),
]


@each_transport
@pytest.mark.parametrize(("query", "auth", "headers"), [row[1:] for row in ACCEPTED], ids=[row[0] for row in ACCEPTED])
async def test_who_is_let_in(shared: Roost, query: str, auth: str, headers: dict[str, str], transport: str) -> None:
    kind, payload = await handshake(shared, query, transport=transport, headers=headers, auth=auth)

    assert kind == "connect"
    assert payload["sid"]


async def test_a_refused_socket_is_no_connection_and_gets_no_answers(shared: Roost) -> None:
    before = shared.connections.count()
    async with wire(shared, "appId=nope") as (socket, packet):
        assert packet.startswith("44")
        await socket.socket.send_str('421["find","notes",{}]')
        await socket.socket.send_str("40")
        answers = []
        while (answer := await socket.receive()) is not None:
            answers.append(answer)
            if answer.startswith("44"):
                break
        assert not [answer for answer in answers if answer.startswith("43")]
    assert shared.connections.count() == before


async def test_a_token_in_the_handshake_logs_in(shared: Roost) -> None:
    name = fresh()
    async with connect(shared, "acme") as first:
        user = await first.sign_up(name)
        token = first.token
    for scheme in ("Bearer ", "bearer ", "JWT ", ""):
        async with connect(shared, "acme", headers={"Authorization": f"{scheme}{token}"}) as second:
            assert (await second.call("get", "users", user["_id"]))["username"] == name


async def test_a_handshake_token_of_another_app_is_refused(shared: Roost) -> None:
    async with connect(shared, "globex") as other:
        await other.sign_up(f"{fresh()}@globex.example", field="email")
        kind, payload = await handshake(shared, "appId=acme", headers={"Authorization": f"Bearer {other.token}"})

    assert (kind, payload["data"]["code"]) == ("refused", 403)
    assert payload["data"]["data"] == {"reason": "TenantMismatch"}


async def test_a_tampered_handshake_token_is_refused(shared: Roost) -> None:
    async with connect(shared, "acme") as ada:
        await ada.sign_up(fresh())
        head, body, signature = str(ada.token).split(".")
        forged = f"{head}.{body}.{signature[:10]}{'A' if signature[10] != 'A' else 'B'}{signature[11:]}"
        kind, payload = await handshake(shared, "appId=acme", headers={"Authorization": forged})

    assert (kind, payload["data"]["code"]) == ("refused", 401)


async def test_an_expired_handshake_token_makes_a_stranger(shared: Roost) -> None:
    async with connect(shared, "acme") as ada:
        user = await ada.sign_up(fresh())
    tenant = shared.catalogue.peek("acme")
    assert tenant is not None
    old, _ = await Tokens(shared.backend.keys, lifetime=60, clock=lambda: 1_000_000_000.0).issue(tenant, user["_id"])

    async with connect(shared, "acme", headers={"Authorization": f"Bearer {old}"}) as late:
        assert (await outcome(late, "find", "users")).code == 401
        await late.login(user["username"])
        assert (await late.call("get", "users", user["_id"]))["_id"] == user["_id"]


@pytest.mark.asyncio(loop_scope="function")
async def test_a_suspended_app_is_refused_with_its_state(roosts: StartRoost) -> None:
    roost = await roosts()
    tenants = roost.backend.deployment.client[f"{roost.settings.database}_control"]["tenants"]
    async with connect(roost, "acme") as inside, connect(roost, "globex") as neighbour:
        await tenants.update_one({"_id": "acme"}, {"$set": {"status": "suspended"}, "$inc": {"epoch": 1}})
        await inside.gone()

        for transport in ("websocket", "polling"):
            kind, payload = await handshake(roost, "appId=acme", transport=transport)
            assert (kind, payload["data"]["code"]) == ("refused", 403)
            assert payload["data"]["data"] == {"reason": "TenantUnavailable", "state": "suspended"}
        await neighbour.quiet()
        assert await neighbour.call("find", "notes", {}) == []
