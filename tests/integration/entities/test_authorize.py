"""TENANCY TK-7: the OAuth form of switching, `prompt=none&organization=`, with codes and PKCE; SD-9: host-only cookies."""

from __future__ import annotations

from collections.abc import Mapping
from http.cookies import SimpleCookie
from typing import Any

import pytest

from hooks.tenant import Tenant
from server.main import Roost
from services.entities.registry import Entity
from tests.integration.entities.browser import CALLBACK, Browser, browsing, claims_of, make_client, records, status_at
from tests.integration.entities.managers import linked, make_manager
from tests.integration.entities.people import (
    HUB,
    NORTH,
    PAGE,
    SOUTH,
    administrator,
    make_person,
    make_role,
    refusal,
    tenant_of,
)
from tests.support.client import Rest, connect, fresh, rest, until

pytestmark = pytest.mark.asyncio(loop_scope="module")
COOKIE = f"__Host-roost-{HUB}"


async def test_a_browser_goes_on_in_an_app_without_a_page(served: Roost) -> None:
    """TK-1, TK-7, TK-13: a code, a token in the organization, over both transports; the session lasts no longer for it."""
    manager = await make_manager(served, "read:roles")
    async with browsing(served, manager.name) as browser:
        reply = await browser.open(organization=NORTH.upper())
        assert (reply.status, reply.body) == (303, b"")
        assert (reply.headers["Cache-Control"], reply.headers["Referrer-Policy"]) == ("no-store", "no-referrer")
        assert "Set-Cookie" not in reply.headers
        back = await browser.back(organization=NORTH)
        assert back.keys() == {"code", "state"}
        assert back["state"] == "a state & more"
        answer = await browser.exchange(back["code"])
        assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
        tokens = answer.json
        assert tokens.keys() == {"access_token", "token_type", "expires_in", "refresh_token"}
        assert tokens["token_type"] == "Bearer"
        assert 590 <= tokens["expires_in"] <= 600
        claims = claims_of(tokens["access_token"])
        assert {name: claims[name] for name in ("app_id", "tid", "org_id", "sub", "permissions")} == {
            "app_id": HUB,
            "tid": NORTH,
            "org_id": manager.org_id,
            "sub": manager.user_id,
            "permissions": ["read:roles"],
        }
        assert await status_at(served, tokens["access_token"], NORTH) == 200
        assert await status_at(served, tokens["access_token"], HUB) == 403
        async with connect(served, NORTH) as socket:
            await socket.login_by(tokens["access_token"])
            assert (await socket.call("find", "roles"))["total"] >= 0
        sid = claims_of(browser.login["accessToken"])["sid"]
        parent = await records(served, "sessions").find_one({"app_id": HUB, "_id.i": sid})
        child = await records(served, "sessions").find_one({"app_id": HUB, "_id.i": claims["sid"]})
        assert child["_id"] != parent["_id"]
        assert (child["parent"], child["client_id"]) == (parent["_id"]["i"], browser.client)
        assert child["expires_at"] == parent["expires_at"]


async def test_without_an_organization_and_in_one_of_the_app_s_own(served: Roost) -> None:
    """TK-7: the same way leads into no organization, and into those of any app."""
    address, user_id = await make_person(served, NORTH)
    async with administrator(served, NORTH) as ada:
        org = await ada.call("create", "organizations", {"name": fresh("org")})
        role = await make_role(ada, "read:clients")
        await ada.call("create", "members", {"org_id": org["_id"], "user_id": user_id, "roles": [role]})
    async with browsing(served, address, app=NORTH) as browser:
        plain = claims_of((await browser.tokens())["access_token"])
        assert (plain["tid"], "org_id" in plain) == (NORTH, False)
        inside = await browser.tokens(organization=org["_id"])
        assert claims_of(inside["access_token"])["org_name"] == org["name"]
        assert await status_at(served, inside["access_token"], NORTH, "/clients") == 200


async def test_the_cookie_is_for_this_host_alone_and_no_script_reads_it(served: Roost) -> None:
    """SD-9: `__Host-`: secure, for all paths, no domain; http-only; same-site, but for links that lead here."""
    manager = await make_manager(served, "read:roles")
    async with browsing(served, manager.name, kept=False) as browser:
        reply = await browser.keep()
        assert (reply.status, reply.body) == (204, b"")
        ((name, morsel),) = SimpleCookie(reply.headers["Set-Cookie"]).items()
        assert name == COOKIE
        assert {key: value for key, value in morsel.items() if value} == {
            "path": "/",
            "secure": True,
            "httponly": True,
            "samesite": "Lax",
        }
        assert "code" in await browser.back(organization=NORTH)


async def test_the_cookie_is_no_login(served: Roost) -> None:
    """TK-4, SD-9: no call of a service and no handshake is answered because of it, so no other page can use it (CSRF)."""
    manager = await make_manager(served, "tenant:admin")
    async with browsing(served, manager.name) as browser, rest(served, HUB) as http:
        for verb, path in (("GET", "/sessions"), ("GET", f"/users/{manager.user_id}"), ("DELETE", "/authentication")):
            assert (await http.request(verb, path, headers=browser.sent())).status == 401
        for path in ("/oauth/session", "/authentication"):
            data = {"strategy": "organization", "organization": NORTH} if path == "/authentication" else None
            assert (await http.request("POST", path, data, headers=browser.sent())).status == 401
        async with connect(served, HUB, headers=browser.sent()) as socket:
            assert (await refusal(socket, "find", "sessions")).code == 401


async def test_without_a_session_there_is_no_code(served: Roost) -> None:
    """TK-7, OpenID Connect 3.1.2.6: `login_required`; a cookie of another app, a forged, a replaced and an ended one."""
    manager = await make_manager(served, "read:roles")
    async with browsing(served, manager.name) as browser:
        good = browser.cookies[COOKIE]
        sid, _, secret = good.partition(".")
        forged = [
            f"{sid}.{'0' * 64}",
            f"{'0' * 32}.{secret}",
            sid,
            "",
            good + "0",
            secret,
            browser.login["accessToken"],
        ]
        for cookies in (
            {},
            {f"__Host-roost-{NORTH}": good},
            {COOKIE.lower(): good},
            *({COOKIE: one} for one in forged),
        ):
            browser.cookies = cookies
            for organization in (NORTH, "nowhere", None):
                back = await browser.back(organization=organization)
                assert back.pop("error_description")
                assert back == {
                    "error": "login_required",
                    "error_code": "reauthentication_required",
                    "state": "a state & more",
                }
        browser.cookies = {COOKIE: good}
        await browser.keep()
        assert browser.cookies[COOKIE] != good, "each proof takes the place of the one before"
        assert "code" in await browser.back()
        newest, browser.cookies[COOKIE] = browser.cookies[COOKIE], good
        assert (await browser.back())["error"] == "login_required"
        browser.cookies[COOKIE] = newest
        headers = {"x-app-id": HUB, "Authorization": f"Bearer {browser.login['accessToken']}"}
        assert (await browser.http.request("DELETE", "/authentication", headers=headers)).status == 200
        assert (await browser.back())["error"] == "login_required"


async def test_who_is_no_member_is_not_told_what_there_is(served: Roost) -> None:
    """TK-7: `access_denied` with `not_a_member`, the same for an organization that there is not; the session stays good."""
    manager = await make_manager(served, "read:roles")
    south = await linked(served, SOUTH)
    async with browsing(served, manager.name) as browser:
        answers = [
            (await browser.open(organization=named)).headers["Location"]
            for named in (SOUTH, south, "nowhere", "0123456789abcdef01234567")
        ]
        assert len({*answers}) == 1
        back = await browser.back(organization=SOUTH)
        assert (back["error"], back["error_code"]) == ("access_denied", "not_a_member")
        assert "code" not in back
        assert "code" in await browser.back(organization=NORTH)
        assert await status_at(served, browser.login["accessToken"], HUB, f"/users/{manager.user_id}") == 200


async def test_no_membership_takes_the_same_work_to_find_as_no_organization(
    served: Roost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TK-7, same timing class: as many looks at the database, whichever it is."""
    manager = await make_manager(served, "read:roles")
    south = await linked(served, SOUTH)
    looks: list[str] = []
    first = served.people.entities.first

    async def counted(tenant: Tenant, entity: Entity, filter: Mapping[str, Any]) -> Any:
        looks.append(entity.collection)
        return await first(tenant, entity, filter)

    monkeypatch.setattr(served.people.entities, "first", counted)
    async with browsing(served, manager.name) as browser:
        await browser.back(organization=SOUTH)
        taken = []
        for named in (SOUTH, "nowhere", south, "0123456789abcdef01234567"):
            looks.clear()
            assert (await browser.back(organization=named))["error_code"] == "not_a_member"
            taken.append([*looks])
        assert taken[0] == taken[1]
        assert taken[2] == taken[3]


async def test_an_app_that_is_not_served_is_told_to_members(served: Roost) -> None:
    """TK-7: `tenant_unavailable`, when the code is asked for and when it is used."""
    manager = await make_manager(served, "read:roles", tenant_id=SOUTH)
    tenants = served.backend.deployment.client[f"{served.settings.database}_control"]["tenants"]

    async def set_status(status: str) -> None:
        await tenants.update_one({"_id": SOUTH}, {"$set": {"status": status}, "$inc": {"epoch": 1}})
        await until(lambda: tenant_of(served, SOUTH).status == status)

    async with browsing(served, manager.name) as browser:
        code = (await browser.back(organization=SOUTH))["code"]
        await set_status("suspended")
        try:
            back = await browser.back(organization=SOUTH)
            assert (back["error"], back["error_code"]) == ("access_denied", "tenant_unavailable")
            reply = await browser.exchange(code)
            assert (reply.status, reply.json["error"], reply.json["error_code"]) == (
                400,
                "invalid_grant",
                "tenant_unavailable",
            )
        finally:
            await set_status("ready")


@pytest.mark.parametrize(
    "changed",
    [
        {"client_id": None},
        {"client_id": "nobody"},
        {"client_id": "0123456789abcdef01234567"},
        {"redirect_uri": None},
        {"redirect_uri": "https://evil.example/"},
        {"redirect_uri": CALLBACK + "&more=1"},
        {"redirect_uri": CALLBACK.partition("?")[0]},
        {"redirect_uri": CALLBACK.replace("https://other.example", "https://OTHER.example")},
        {"redirect_uri": CALLBACK.replace("other.example", "other.example:443")},
        {"redirect_uri": CALLBACK + "#"},
    ],
    ids=str,
)
async def test_who_is_no_client_or_wants_to_go_elsewhere_is_sent_nowhere(
    served: Roost, changed: dict[str, str | None]
) -> None:
    """TK-7, RFC 6749 4.1.2.1: 400, and never a redirect; the comparison is letter by letter (RFC 9700 2.1)."""
    manager = await make_manager(served, "read:roles")
    async with browsing(served, manager.name) as browser:
        reply = await browser.open(**changed)
        assert (reply.status, reply.json["name"], "Location" in reply.headers) == (400, "BadRequest", False)


async def test_a_client_is_one_of_its_app(served: Roost) -> None:
    """TK-7, PT-1: the client of another app is nobody here, also where the addresses are the same."""
    manager = await make_manager(served, "read:roles")
    async with browsing(served, manager.name, client=await make_client(served, NORTH)) as browser:
        reply = await browser.open(organization=NORTH)
        assert (reply.status, "Location" in reply.headers) == (400, False)
        twice = await browser.http.request(
            "GET", f"/oauth/authorize?appId={HUB}&client_id={browser.client}&client_id={browser.client}"
        )
        assert twice.status == 400
        assert (await browser.http.request("GET", "/oauth/authorize?client_id=x")).status == 400
        assert (await browser.open(appId="nobody")).status == 404


async def test_what_the_control_plane_shares_is_an_address_of_every_client(served: Roost) -> None:
    """RF-11: the union of the client's callbacks and the shared ones is what is checked."""
    url = f"https://{fresh('shared')}.example/back"
    await make_client(served, HUB, callbacks=[url, f"{url}/own"], shared=[url])
    address, _ = await make_person(served, NORTH)
    async with browsing(served, address, app=NORTH) as browser:
        assert (await browser.open(redirect_uri=url)).status == 303
        assert (await browser.open(redirect_uri=f"{url}/own")).status == 400


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"response_type": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"scope": "openid"}, "invalid_scope"),
        ({"prompt": None}, "interaction_required"),
        ({"prompt": "login"}, "interaction_required"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"request": "x"}, "request_not_supported"),
        ({"request_uri": "https://x.example/"}, "request_uri_not_supported"),
        ({"organization": ""}, "invalid_request"),
        ({"organization": "x" * 257}, "invalid_request"),
        ({"whatever": "x" * 3000}, "invalid_request"),
    ],
    ids=str,
)
async def test_what_the_endpoint_does_not_do_is_an_error_for_the_client(
    served: Roost, changed: dict[str, str | None], error: str
) -> None:
    """TK-7: RFC 6749 4.1.2.1, RFC 7636 4.4.1, OpenID Connect 3.1.2.6; without `prompt=none`: `interaction_required`."""
    manager = await make_manager(served, "read:roles")
    async with browsing(served, manager.name) as browser:
        back = await browser.back(**changed)
        assert (back["error"], back["state"]) == (error, "a state & more")
        assert back["error_description"]
        assert "code" not in back


async def test_pages_of_the_app_and_no_others(served: Roost) -> None:
    """TC-4, TC-5: which pages may have the session kept and take tokens; credentials are named for the one, never with `*`."""
    address, _ = await make_person(served, NORTH)
    async with browsing(served, address, app=NORTH) as browser:
        for path in ("/oauth/session", "/oauth/token"):
            asked = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
            reply = await browser.http.request("OPTIONS", f"{path}?appId={NORTH}", headers=asked)
            assert (reply.status, reply.headers["Access-Control-Allow-Origin"]) == (204, PAGE)
            credentials = reply.headers.get("Access-Control-Allow-Credentials")
            assert credentials == ("true" if path == "/oauth/session" else None)
            evil = {**asked, "Origin": "https://evil.example"}
            refused = await browser.http.request("OPTIONS", f"{path}?appId={NORTH}", headers=evil)
            assert (refused.status, "Access-Control-Allow-Origin" in refused.headers) == (403, False)
        token = {"Authorization": f"Bearer {browser.login['accessToken']}"}
        url = f"/oauth/session?appId={NORTH}"
        kept = await browser.http.request("POST", url, headers={**token, "Origin": PAGE})
        assert (kept.status, kept.headers["Access-Control-Allow-Origin"]) == (204, PAGE)
        assert kept.headers["Access-Control-Allow-Credentials"] == "true"
        stranger = await browser.http.request("POST", url, headers={**token, "Origin": "https://evil.example"})
        assert (stranger.status, "Set-Cookie" in stranger.headers) == (403, False)
        assert (await browser.http.request("POST", url)).status == 401
        (cookie,) = SimpleCookie(kept.headers["Set-Cookie"]).values()
        browser.cookies[cookie.key] = cookie.value
        code = (await browser.back())["code"]
        data = {"grant_type": "authorization_code", "code": code, "code_verifier": browser.verifier}
        data |= {"client_id": browser.client, "redirect_uri": CALLBACK}
        assert (await browser.post(data, Origin="https://evil.example")).status == 403
        reply = await browser.post(data, Origin=PAGE)
        assert (reply.status, reply.headers["Access-Control-Allow-Origin"]) == (200, PAGE)
        assert "Access-Control-Allow-Credentials" not in reply.headers


@pytest.mark.parametrize(
    ("data", "headers", "status", "error"),
    [
        ({}, {}, 400, "invalid_request"),
        ({"grant_type": "password"}, {}, 400, "unsupported_grant_type"),
        ({"grant_type": "authorization_code", "code": "x"}, {}, 400, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": "x"}, {}, 400, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": "x", "client_id": "y"}, {}, 400, "invalid_grant"),
        ({"grant_type": "refresh_token", "client_secret": "x"}, {}, 401, "invalid_client"),
        ({"grant_type": "refresh_token"}, {"Authorization": "Basic eDp5"}, 401, "invalid_client"),
        ({"grant_type": "refresh_token"}, {"Content-Type": "application/json"}, 400, "invalid_request"),
        ({"grant_type": "x" * 3000}, {}, 400, "invalid_request"),
        ({"grant_type": "x" * 17000}, {}, 400, "invalid_request"),
    ],
    ids=str,
)
async def test_what_is_no_request_for_a_token(
    served: Roost, data: dict[str, str], headers: dict[str, str], status: int, error: str
) -> None:
    """RFC 6749 5.2."""
    async with rest(served, None) as http:
        reply = await Browser(http, HUB, "nobody").post(data, **headers)
        assert (reply.status, reply.json["error"], reply.headers["Cache-Control"]) == (status, error, "no-store")
        twice = await http.request(
            "POST",
            f"/oauth/token?appId={HUB}",
            raw=b"grant_type=refresh_token&grant_type=refresh_token",
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
        assert twice.json["error"] == "invalid_request"


@pytest.mark.parametrize("name", ["authorize", "token", "session"])
async def test_no_provider_is_called_like_an_address_of_roost_s_own(served: Roost, name: str) -> None:
    """ADR 33: a connection of this name would be out of reach."""
    async with administrator(served, NORTH) as ada:
        assert isinstance(ada, Rest)
        error = await refusal(ada, "create", "connections", {"name": name, "strategy": "github"})
        assert (error.code, "Roost's own" in error.message) == (400, True)
