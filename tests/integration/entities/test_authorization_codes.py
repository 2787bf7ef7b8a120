"""TENANCY TK-7, TK-13: authorization codes, once and for a minute, and the logins of clients that come of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hooks.context import Params
from hooks.errors import NotAuthenticated
from server.main import Roost
from services.authentication.codes import PER_SESSION
from tests.integration.entities.browser import Browser, browsing, claims_of, make_client, records, status_at
from tests.integration.entities.managers import Manager, make_manager
from tests.integration.entities.people import (
    HUB,
    NORTH,
    administrator,
    make_person,
    person,
    refusal,
    tenant_of,
)
from tests.support.client import connect, rest

pytestmark = pytest.mark.asyncio(loop_scope="module")
COOKIE = f"__Host-roost-{HUB}"


async def test_a_code_is_its_client_s_and_its_verifier_s(served: Roost) -> None:
    """TK-7, RFC 7636 4.6: bound to client, address, challenge and app; a wrong guess uses nothing up."""
    manager = await make_manager(served, "read:roles")
    async with browsing(served, manager.name) as browser:
        code = (await browser.back(organization=NORTH))["code"]
        other = await make_client(served)
        for changed in (
            {"code_verifier": "x" * 43},
            {"code_verifier": "short"},
            {"client_id": other},
            {"redirect_uri": "https://other.example/signed-in"},
            {"code": "x" * 43},
            {"code": code + "x"},
        ):
            reply = await browser.exchange(**{"code": code, **changed})
            assert (reply.status, reply.json["error"]) == (400, "invalid_grant"), changed
        browser.app = NORTH
        assert (await browser.exchange(code)).json["error"] == "invalid_grant"
        browser.app = HUB
        assert (await browser.exchange(code)).status == 200


async def test_a_code_is_good_for_a_minute(served: Roost, monkeypatch: pytest.MonkeyPatch) -> None:
    """TK-7: 60 seconds."""
    manager = await make_manager(served, "read:roles")
    authorization = served.people.authentication.authorization
    assert authorization is not None
    clock = authorization._codes._clock
    async with browsing(served, manager.name) as browser:
        early, late = (await browser.back())["code"], (await browser.back())["code"]
        monkeypatch.setattr(authorization._codes, "_clock", lambda: clock() + 55)
        assert (await browser.exchange(early)).status == 200
        monkeypatch.setattr(authorization._codes, "_clock", lambda: clock() + 61)
        assert (await browser.exchange(late)).json["error"] == "invalid_grant"


async def test_a_code_that_is_used_twice_revokes_what_came_of_it(served: Roost) -> None:
    """TK-7, RFC 6749 4.1.2: whoever shows it, with the right verifier or not; sockets are logged out; the browser's
    own session goes on."""
    manager = await make_manager(served, "read:roles")
    async with browsing(served, manager.name) as browser:
        for changed in ({}, {"code_verifier": "x" * 43}):
            code = (await browser.back(organization=NORTH))["code"]
            tokens = (await browser.exchange(code)).json
            async with connect(served, NORTH) as socket:
                await socket.login_by(tokens["access_token"])
                again = await browser.exchange(code, **changed)
                assert (again.status, again.json["error"]) == (400, "invalid_grant")
                assert (await refusal(socket, "find", "roles")).code == 401
            assert await status_at(served, tokens["access_token"], NORTH) == 401
            assert (await browser.renew(tokens["refresh_token"])).json["error"] == "invalid_grant"
        assert "code" in await browser.back()
        assert await status_at(served, browser.login["accessToken"], HUB, f"/users/{manager.user_id}") == 200


async def test_of_many_who_use_a_code_at_once_nobody_keeps_what_came_of_it(served: Roost) -> None:
    """TK-7: a race is a second use, whichever of them comes first."""
    manager = await make_manager(served, "read:roles")
    async with browsing(served, manager.name) as browser:
        for _ in range(3):
            code = (await browser.back(organization=NORTH))["code"]
            replies = await asyncio.gather(*(browser.exchange(code) for _ in range(6)))
            won = [reply.json for reply in replies if reply.status == 200]
            assert len(won) <= 1
            for tokens in won:
                assert await status_at(served, tokens["access_token"], NORTH) == 401
            children = {"user_id": manager.user_id, "parent": {"$exists": True}}
            assert await records(served, "sessions").count_documents({"app_id": HUB, **children}) == 0


async def test_the_login_of_a_client_is_renewed_and_stays_where_it_is(served: Roost) -> None:
    """TK-7, TK-13: by the token endpoint, once each, for its own client; it never outlasts the browser's session."""
    manager = await make_manager(served, "read:roles")
    async with browsing(served, manager.name, refresh=False) as browser:
        tokens = await browser.tokens(organization=NORTH)
        sid = claims_of(tokens["access_token"])["sid"]
        for wrong in (await make_client(served), "nobody"):
            reply = await browser.renew(tokens["refresh_token"], client_id=wrong)
            assert (reply.status, reply.json["error"]) == (400, "invalid_grant")
        renewed = (await browser.renew(tokens["refresh_token"])).json
        assert {name: claims_of(renewed["access_token"])[name] for name in ("tid", "sid")} == {"tid": NORTH, "sid": sid}
        sessions = records(served, "sessions")
        child = await sessions.find_one({"app_id": HUB, "_id.i": sid})
        parent = await sessions.find_one({"app_id": HUB, "_id.i": child["parent"]})
        assert child["expires_at"] == parent["expires_at"]
        async with rest(served, NORTH) as http:
            data = {"strategy": "refresh", "refreshToken": renewed["refresh_token"]}
            by_strategy = await http.call("create", "authentication", data)
            assert by_strategy["authentication"]["payload"]["tid"] == NORTH
        used = await browser.renew(renewed["refresh_token"])
        assert used.json["error"] == "invalid_grant"
        assert (await browser.renew(by_strategy["refreshToken"])).json["error"] == "invalid_grant", (
            "and so it has ended"
        )
        assert await sessions.count_documents({"app_id": HUB, "_id.i": sid}) == 0


async def test_a_login_of_the_app_itself_is_no_client_s(served: Roost) -> None:
    """RFC 6749 6: a refresh token is for the client to which it was given."""
    manager = await make_manager(served, "read:roles")
    async with browsing(served, manager.name) as browser:
        assert (await browser.renew(browser.login["refreshToken"])).json["error"] == "invalid_grant"
        data = {"strategy": "refresh", "refreshToken": browser.login["refreshToken"]}
        reply = await browser.http.request("POST", "/authentication", data, headers={"x-app-id": HUB})
        assert reply.status == 201, "and nothing was used up"


async def removed(served: Roost, manager: Manager, browser: Browser) -> None:
    async with administrator(served, HUB) as ada:
        await ada.call("remove", "members", manager.member_id)


async def logged_out(served: Roost, manager: Manager, browser: Browser) -> None:
    headers = {"x-app-id": HUB, "Authorization": f"Bearer {browser.login['accessToken']}"}
    assert (await browser.http.request("DELETE", "/authentication", headers=headers)).status == 200


async def logged_out_everywhere(served: Roost, manager: Manager, browser: Browser) -> None:
    headers = {"x-app-id": HUB, "Authorization": f"Bearer {browser.login['accessToken']}"}
    assert (await browser.http.request("DELETE", "/sessions", headers=headers)).status == 200


async def stolen(served: Roost, manager: Manager, browser: Browser) -> None:
    data = {"strategy": "refresh", "refreshToken": browser.login["refreshToken"]}
    for status in (201, 401):
        reply = await browser.http.request("POST", "/authentication", data, headers={"x-app-id": HUB})
        assert reply.status == status


@pytest.mark.parametrize("end", [removed, logged_out, logged_out_everywhere, stolen])
async def test_what_came_of_a_browser_ends_with_what_it_came_from(served: Roost, end: Any) -> None:
    """TK-7, TK-9, TK-13: the membership or the browser's session has ended: no code, no call, no refresh, no socket."""
    manager = await make_manager(served, "read:roles")
    async with browsing(served, manager.name) as browser:
        code = (await browser.back(organization=NORTH))["code"]
        tokens = await browser.tokens(organization=NORTH)
        async with connect(served, NORTH) as socket:
            await socket.login_by(tokens["access_token"])
            await end(served, manager, browser)
            if end is removed:
                await socket.gone()
            else:
                assert (await refusal(socket, "find", "roles")).code == 401
        assert await status_at(served, tokens["access_token"], NORTH) in (401, 403)
        assert (await browser.renew(tokens["refresh_token"])).json["error"] == "invalid_grant"
        assert (await browser.exchange(code)).json["error"] == "invalid_grant"


async def test_nothing_comes_out_of_a_session_that_ends_meanwhile(served: Roost) -> None:
    """TK-13: the session was there when it was looked up, and is gone when the client's own is kept."""
    manager = await make_manager(served, "read:roles")
    ledger, hub = served.people.ledger, tenant_of(served, HUB)
    async with browsing(served, manager.name) as browser:
        session = await ledger.of_browser(hub, browser.cookies[COOKIE])
        assert session is not None
        await ledger.end(hub, session.id)
        with pytest.raises(NotAuthenticated):
            await ledger.begin_within(
                Params(tenant=hub), session, "c" * 32, organization=None, client=browser.client, keep=True
            )
        assert await records(served, "sessions").count_documents({"app_id": HUB, "parent": session.id}) == 0


async def test_a_client_s_login_is_not_the_browser_s(served: Roost) -> None:
    """TK-7: only who has logged in here lets the browser keep the session; an API key and a manager have none here."""
    manager = await make_manager(served, "read:roles")
    keeper, _ = await make_person(served, HUB, "admin")
    async with browsing(served, manager.name) as browser, person(served, HUB, "http", keeper) as root:
        tokens = await browser.tokens()
        key = await root.call("create", "api-keys", {"name": "robot", "scopes": ["*"]})
        elsewhere = (await browser.tokens(organization=NORTH))["access_token"]
        for app, token, status in (
            (HUB, tokens["access_token"], 401),
            (HUB, key["key"], 403),
            (HUB, elsewhere, 403),
            (NORTH, elsewhere, 403),
            (HUB, "nothing", 401),
        ):
            browser.login, browser.app = {"accessToken": token}, app
            assert (await browser.keep()).status == status


async def test_at_rest_there_is_no_secret(served: Roost) -> None:
    """TK-7: codes and what the browser keeps are hashes in the database."""
    manager = await make_manager(served, "read:roles")
    async with browsing(served, manager.name) as browser:
        code = (await browser.back(organization=NORTH))["code"]
        kept = [one async for one in records(served, "oauth_codes").find({"app_id": HUB})]
        sessions = [one async for one in records(served, "sessions").find({"app_id": HUB})]
        assert browser.client in repr(kept)
        for secret in (code, browser.verifier, browser.cookies[COOKIE].partition(".")[2]):
            assert secret not in repr(kept) + repr(sessions)
        async with rest(served, HUB) as http:
            http.headers["Authorization"] = f"Bearer {browser.login['accessToken']}"
            shown = await http.call("find", "sessions")
        assert [field for one in shown for field in ("browser", "refresh") if field in one] == []


async def test_a_session_asks_for_so_many_codes_and_no_more(served: Roost) -> None:
    """Principle 8: nothing is unbounded."""
    manager = await make_manager(served, "read:roles")
    async with browsing(served, manager.name) as browser:
        for _ in range(PER_SESSION):
            assert "code" in await browser.back()
        assert (await browser.back())["error"] == "temporarily_unavailable"
