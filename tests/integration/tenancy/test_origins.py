"""The check of origins on all transports (TENANCY.md TC-4 to TC-7, LIMITS.md O1 to O3)."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from multidict import CIMultiDict
from yarl import URL

from server.main import Roost
from tests.conftest import StartRoost
from tests.support.client import connect, fresh, handshake, outcome, rest
from tests.support.roost import start_roost
from tests.support.tripwire import Tripwire

pytestmark = pytest.mark.asyncio(loop_scope="module")

APPS = """
tenants:
  - id: acme
    allowed_origins: ["https://a.com", "https://a.com:8443", "https://*.acme.example", "http://localhost:3030"]
    services: &services
      notes: {paginate: false, multi: true, rules: {default: public}}
      messages: {rules: {default: authenticated}}
  - id: globex
    allowed_origins: ["https://b.com", "https://*.globex.example"]
    auth: {username_field: email}
    services: *services
"""

OWN = {
    "acme": ("https://a.com", "https://a.com:8443", "https://x.acme.example", "http://localhost:3030"),
    "globex": ("https://b.com", "https://shop.globex.example"),
}
"""What each app admits. Whatever is the one's is foreign to the other."""
EVIL = """
https://a.com.evil.com https://evil-a.com https://evila.com http://a.com https://a.com:443 https://a.com:80 https://a.com.
https://A.com HTTPS://a.com https://A.COM https://a.com@evil https://evil@a.com https://u:p@a.com null NULL https://a.com/
https://a.com/x https://a.com?x https://a.com#x https://xn--a-0tb.com https://a.com%00 https://a.com%2eevil.com
https://a.com\\evil http://localhost http://localhost:30300 http://localhost:3031 https://localhost:3030
http://127.0.0.1:3030 http://[::1]:3030 file:// https://*.com * https://* https://sub.a.com //a.com a.com https://a.co
https://a.comm ws://a.com wss://a.com https://a.com,https://a.com https://a.com:8444 https://acme.example
https://x.y.acme.example https://*.acme.example https://.acme.example http://x.acme.example https://x.acme.example.
https://x.acme.example:8443 https://x@y.acme.example https://x.acme.example.evil.com https://b.com.evil.com http://b.com
https://globex.example https://x.y.globex.example http://shop.globex.example chrome-extension://abcdef data: https://a.com;https://b.com
https://a.com.localhost https://localhost http://a.com:8443 https://www.a.com
""".split()
ABSENT = None


def rows(app: str) -> list[tuple[str | None, bool]]:
    """All origins, and whether the app admits them."""
    known = [(origin, id == app) for id, own in OWN.items() for origin in own]
    return [*known, *((origin, False) for origin in EVIL), (ABSENT, True)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(mongod: str) -> AsyncIterator[Roost]:
    tripwire = Tripwire()
    roost = await start_roost(mongod, APPS, tripwire=tripwire)
    yield roost
    await roost.drop()
    assert tripwire.violations == []


@pytest_asyncio.fixture(loop_scope="module")
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


Ask = Any


async def ask(
    session: aiohttp.ClientSession, roost: Roost, path: str, headers: Mapping[str, str], verb: str = "GET"
) -> tuple[int, Mapping[str, str], bytes]:
    async with session.request(verb, URL(roost.url + path, encoded=True), headers=headers) as response:
        body = b"" if response.status == 101 else await response.read()
        return response.status, response.headers, body


UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
}


@pytest.mark.parametrize("transport", ["rest", "polling", "websocket"])
@pytest.mark.parametrize("app", ["acme", "globex"])
async def test_which_pages_are_admitted(
    guarded: Roost, session: aiohttp.ClientSession, app: str, transport: str
) -> None:
    """O1, TC-4, TC-7: 60 origins for each of two apps on all three transports; 403 before any handler, no CORS headers."""
    assert len(rows(app)) >= 60
    before = guarded.engine.connections
    paths = {
        "rest": "/notes",
        "polling": f"/socket.io/?EIO=4&transport=polling&appId={app}",
        "websocket": f"/socket.io/?EIO=4&transport=websocket&appId={app}",
    }
    for origin, is_admitted in rows(app):
        headers = {"x-app-id": app, **({} if origin is ABSENT else {"Origin": origin})}
        if transport == "websocket":
            headers |= UPGRADE
        status, answered, body = await ask(session, guarded, paths[transport], headers)
        if is_admitted:
            assert status == (101 if transport == "websocket" else 200), origin
        else:
            assert status == 403, origin
            assert json.loads(body)["data"] == {"reason": "OriginNotAllowed"}
        if transport != "websocket":
            shown = origin if is_admitted else None
            assert answered.get("Access-Control-Allow-Origin") == shown, origin
            assert "Access-Control-Allow-Credentials" not in answered
            assert "Origin" in answered.get("Vary", "") or origin is ABSENT
    if transport == "rest":
        assert guarded.engine.connections == before


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_two_origins_are_refused(guarded: Roost, transport: str) -> None:
    """O1."""
    headers = CIMultiDict([("Origin", "https://a.com"), ("Origin", "https://a.com")])
    assert await handshake(guarded, "appId=acme", transport=transport, headers=headers) == ("turned away", 403)


async def test_no_handler_runs_for_a_foreign_page(guarded: Roost) -> None:
    """TC-4: nothing is written, nobody hears anything."""
    word = fresh("never")
    async with connect(guarded, "acme") as listener, rest(guarded, "acme", Origin="https://b.com") as page:
        reply = await page.request("POST", "/notes", {"word": word})
        assert reply.status == 403
        await listener.quiet()
        assert await listener.call("find", "notes", {"word": word}) == []


async def key_of(roost: Roost, id: str) -> str:
    tenant = await roost.backend.tenants.get(id)
    assert tenant is not None
    return tenant.public_keys[0]


async def test_preflights(guarded: Roost) -> None:
    """TC-5: the app is known by its key in the query or by the host alone; else there are no CORS headers."""
    key = await key_of(guarded, "acme")
    asking = {"Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "x-app-id"}
    async with rest(guarded, None, **asking) as page:
        for path in (f"/notes?tenant={key}", "/socket.io/?EIO=4&transport=polling&appId=acme"):
            yes = await page.request("OPTIONS", path, headers={"Origin": "https://a.com"})
            assert (yes.status, yes.headers["Access-Control-Allow-Origin"]) == (204, "https://a.com")
            assert "PATCH" in yes.headers["Access-Control-Allow-Methods"]
            for header in ("authorization", "x-app-id", "x-tenant-id"):
                assert header in yes.headers["Access-Control-Allow-Headers"]
            assert int(yes.headers["Access-Control-Max-Age"]) <= 600
            no = await page.request("OPTIONS", path, headers={"Origin": "https://b.com"})
            assert (no.status, no.json["data"]) == (403, {"reason": "OriginNotAllowed"})
            assert "Access-Control-Allow-Origin" not in no.headers
            assert "Access-Control-Allow-Methods" not in no.headers
        for path in ("/notes", "/notes?tenant=acme", "/socket.io/?EIO=4&transport=polling"):
            unknown = await page.request("OPTIONS", path, headers={"Origin": "https://a.com"})
            assert (unknown.status, unknown.body) == (204, b"")
            assert not [name for name in unknown.headers if name.startswith("Access-Control")]


@pytest.mark.asyncio(loop_scope="function")
async def test_preflights_by_host(roosts: StartRoost) -> None:
    """TC-5."""
    roost = await roosts(APPS, base_hosts=("roost.example",))
    asking = {"Access-Control-Request-Method": "POST", "Host": "acme.roost.example"}
    async with rest(roost, None, **asking) as page:
        for path in ("/notes", "/socket.io/?EIO=4&transport=polling"):
            for origin, status in (("https://a.com", 204), ("https://b.com", 403)):
                reply = await page.request("OPTIONS", path, headers={"Origin": origin})
                assert reply.status == status
                assert ("Access-Control-Allow-Origin" in reply.headers) is (status == 204)


async def test_a_public_key_names_the_app_everywhere(guarded: Roost) -> None:
    """TC-2: header, query, and what a socket's client sends along; a query of a service keeps its own fields."""
    key = await key_of(guarded, "acme")
    async with rest(guarded, None) as client:
        note = (await client.request("POST", f"/notes?tenant={key}", {"tenant": "somebody"})).json
        for path, headers in ((f"/notes?tenant={key}", {}), ("/notes", {"X-Tenant-ID": key})):
            found = (await client.request("GET", path, headers=headers)).json
            assert note in found
        chosen = await client.request("GET", "/notes?tenant=nobody", headers={"x-app-id": "acme"})
        assert chosen.json == []
    for query, auth, headers in (
        (f"tenant={key}", "", {}),
        ("", json.dumps({"tenant": key}), {}),
        ("", "", {"X-Tenant-ID": key}),
        (f"tenant={key}&appId=acme", json.dumps({"tenant": key, "appId": "acme"}), {"x-app-id": "acme"}),
    ):
        for transport in ("websocket", "polling"):
            kind, _ = await handshake(guarded, query, transport=transport, auth=auth, headers=headers)
            assert kind == "connect", (query, auth, headers)


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_names_that_disagree_are_refused(guarded: Roost, transport: str) -> None:
    """O3, TC-2: 400."""
    acme, globex = await key_of(guarded, "acme"), await key_of(guarded, "globex")
    for query, auth, headers in (
        ("appId=acme", {"appId": "globex"}, {}),
        ("appId=acme", {}, {"x-app-id": "globex"}),
        (f"tenant={acme}", {"tenant": globex}, {}),
        (f"tenant={acme}", {}, {"X-Tenant-ID": globex}),
        (f"tenant={globex}&appId=acme", {}, {}),
        ("appId=acme", {"tenant": globex}, {}),
        (f"tenant={acme}&tenant={acme}", {}, {}),
    ):
        kind, payload = await handshake(guarded, query, transport=transport, auth=json.dumps(auth), headers=headers)
        assert (kind, payload["data"]["code"]) == ("refused", 400), (query, auth)


async def test_a_public_key_opens_nothing(guarded: Roost) -> None:
    """TC-1, TC-3: who has the key alone is a stranger, and a token of another app is refused beside it."""
    key = await key_of(guarded, "acme")
    async with rest(guarded, None, **{"X-Tenant-ID": key}) as client:
        assert (await client.request("GET", "/messages")).status == 401
        assert (await client.request("GET", "/users")).status == 401
    async with connect(guarded, "globex") as other:
        await other.sign_up(f"{fresh()}@globex.example", field="email")
    async with rest(guarded, None, **{"X-Tenant-ID": key, "Authorization": f"Bearer {other.token}"}) as client:
        reply = await client.request("GET", "/notes")
        assert (reply.status, reply.json["data"]) == (403, {"reason": "TenantMismatch"})


async def test_what_a_page_of_another_site_gains_by_a_cookie(guarded: Roost, session: aiohttp.ClientSession) -> None:
    """O2: nothing. A handshake or request with whatever cookies is a stranger's, from a listed origin too."""
    async with connect(guarded, "acme") as ada:
        await ada.sign_up(fresh())
    cookies = "; ".join(f"{name}={ada.token}" for name in ("token", "session", "feathers-jwt", "__Host-session"))
    for origin, status in (("https://a.com", 401), ("https://evil.example", 403)):
        headers = {"x-app-id": "acme", "Origin": origin, "Cookie": cookies}
        assert (await ask(session, guarded, "/messages", headers))[0] == status
    assert await handshake(guarded, "appId=acme", headers={"Origin": "https://evil.example", "Cookie": cookies}) == (
        "turned away",
        403,
    )
    async with connect(guarded, "acme", headers={"Origin": "https://a.com", "Cookie": cookies}) as page:
        assert (await outcome(page, "find", "messages")).code == 401


@pytest.mark.asyncio(loop_scope="function")
async def test_an_app_may_ask_for_an_origin(roosts: StartRoost) -> None:
    """TC-4: `require_origin` admits without one only who carries a verified token."""
    roost = await roosts(APPS)
    async with connect(roost, "acme") as ada:
        await ada.sign_up(fresh())
    await roost.backend.configuration.change("acme", {"require_origin": True})

    async def status(**headers: str) -> int:
        async with rest(roost, "acme", **headers) as client:
            return (await client.request("GET", "/notes")).status

    async def kind(**headers: str) -> str:
        answered, payload = await handshake(roost, "appId=acme", headers=headers)
        assert answered != "refused" or payload["data"]["code"] in (401, 403)
        return answered

    bearer = {"Authorization": f"Bearer {ada.token}"}
    forged = {"Authorization": f"Bearer {ada.token}x"}
    await changed(roost)
    assert (await status(), await kind()) == (403, "refused")
    assert (await status(**forged), await kind(**forged)) == (401, "refused")
    assert (await status(**bearer), await kind(**bearer)) == (200, "connect")
    page = {"Origin": "https://a.com"}
    assert (await status(**page), await kind(**page)) == (200, "connect")
    async with rest(roost, "globex") as other:
        assert (await other.request("GET", "/notes")).status == 200


async def changed(roost: Roost) -> None:
    """Waits until the server has seen the app's newest configuration."""
    newest = await roost.backend.tenants.get("acme")
    assert newest is not None
    await roost.catalogue.get("acme", epoch=newest.epoch)
