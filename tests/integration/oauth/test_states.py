"""A sign-in that is under way is for one app, one provider, one browser, one redirect and one use (LIMITS A8)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from server.main import Roost
from services.declaration import parse
from tests.integration.oauth.browser import (
    GONE,
    HOME,
    OTHER,
    Browser,
    PageError,
    count,
    declared,
    fragment,
    with_query,
)
from tests.support.client import rest, until
from tests.support.oidc_provider import OpenIdProvider
from tests.support.placed import database_of


async def test_a_state_works_once(knowing: Roost, browser: Browser) -> None:
    """A8: replayed, or used fifty times at once, it is worth one login."""
    callback = await browser.visit(await browser.begin())
    ((state, proof),) = browser.storage.items()

    async def use() -> str | PageError:
        try:
            body = {"search": callback.partition("callback")[2], "proof": proof}
            return str((await browser.ask("/oauth/known/callback", body))["location"])
        except PageError as error:
            return error

    found = await asyncio.gather(*(use() for _ in range(50)))
    winners = [page for page in found if isinstance(page, str)]
    assert len(winners) == 1
    assert "access_token" in fragment(winners[0])
    assert {error.code for error in found if isinstance(error, PageError)} == {401}
    browser.storage[state] = proof
    with pytest.raises(PageError, match=GONE):
        await browser.come_back(callback)
    assert await count(knowing, "sessions") == 1


async def test_another_browser_cannot_end_a_sign_in(knowing: Roost, browser: Browser) -> None:
    """Login CSRF: a link with somebody else's code and state logs nobody in, and does not use the state up."""
    callback = await browser.visit(await browser.begin())
    proofs = dict(browser.storage)
    victim = Browser(knowing, browser.session)
    for proof in (None, "", "x" * 43, {"$ne": ""}, 7):
        victim.storage = {} if proof is None else dict.fromkeys(proofs, proof)  # type: ignore[arg-type]
        with pytest.raises(PageError, match=GONE):
            await victim.come_back(callback)
    assert await count(knowing, "sessions") == 0
    assert "access_token" in fragment(await browser.come_back(callback))


async def test_a_state_is_one_app_s_alone(knowing: Roost, browser: Browser) -> None:
    """T2: the state and proof of an app are worth nothing at another one, which knows the same provider."""
    callback = await browser.visit(await browser.begin("acme"))
    ((state, proof),) = browser.storage.items()
    moved = state.replace("acme.", "globex.")
    browser.storage = {moved: proof}
    with pytest.raises(PageError, match=GONE):
        await browser.come_back(with_query(callback, state=moved))
    for odd in ("", "acme", "acme.", "acme.x", f"{state}x", f"../{state}", f"{state}\n", "nobody." + state[5:]):
        browser.storage = {odd: proof}
        with pytest.raises(PageError) as error:
            await browser.come_back(with_query(callback, state=odd))
        assert error.value.code in {401, 404}
    assert await count(knowing, "users") + await count(knowing, "users", "globex") == 0


async def test_a_state_expires(knowing: Roost, browser: Browser) -> None:
    callback = await browser.visit(await browser.begin())
    states = knowing.people.oauth_states
    clock = states._clock
    states._clock = lambda: clock() + 601
    with pytest.raises(PageError, match=GONE):
        await browser.come_back(callback)


async def test_at_rest_there_is_no_secret(knowing: Roost, browser: Browser) -> None:
    await browser.begin()
    ((state, proof),) = browser.storage.items()
    kept = repr(await database_of(knowing)["oauth_states"].find_one({"app_id": "acme"}))
    assert "known" in kept
    assert proof not in kept
    assert state not in kept
    assert state.partition(".")[2] not in kept


async def test_fields_that_come_twice_are_refused(browser: Browser) -> None:
    callback = await browser.visit(await browser.begin())
    kept = dict(browser.storage)
    for again in ("code=other", "state=other", "iss=other"):
        browser.storage = dict(kept)
        with pytest.raises(PageError, match="twice"):
            await browser.come_back(f"{callback}&{again}")
    browser.storage = kept
    assert "access_token" in fragment(await browser.come_back(callback)), "and use nothing up"


@pytest.mark.parametrize("redirect", ["https://app.example.attacker.com/welcome", "//attacker.com", "/other", ""])
async def test_a_redirect_that_is_not_declared_begins_nothing(knowing: Roost, browser: Browser, redirect: str) -> None:
    """The whole table is in `unit/services/test_redirects.py`."""
    with pytest.raises(PageError) as error:
        await browser.begin(redirect=redirect)
    assert error.value.code == 400
    assert await count(knowing, "oauth_states") == 0


async def test_a_redirect_that_is_withdrawn_meanwhile_is_not_opened(
    knowing: Roost, browser: Browser, provider: OpenIdProvider
) -> None:
    callback = await browser.visit(await browser.begin(redirect=OTHER))
    await knowing.backend.apply(parse(declared(provider, redirects=[HOME])))

    async def is_known() -> bool:
        tenant = await knowing.catalogue.get("acme")
        return tenant is not None and tenant.auth.oauth["known"].redirects == (HOME,)

    await until(is_known)
    with pytest.raises(PageError, match=GONE):
        await browser.come_back(callback)


async def test_the_page_runs_its_own_script_alone(knowing: Roost) -> None:
    async with rest(knowing, None) as http:
        for path in ("/oauth/known?appId=acme", "/oauth/known/callback?code=1&state=%3Cscript%3E"):
            page = await http.request("GET", path)
            assert page.status == 200
            assert b"script>" in page.body
            assert b"%3C" not in page.body
            policy = page.headers["Content-Security-Policy"]
            assert "default-src 'none'; script-src 'sha256-" in policy
            assert "frame-ancestors 'none'" in policy
            assert page.headers["Referrer-Policy"] == "no-referrer"
            assert page.headers["Cache-Control"] == "no-store"


async def test_other_pages_cannot_begin_a_sign_in(browser: Browser) -> None:
    for origin in ("https://evil.example", "null", "https://app.example"):
        with pytest.raises(PageError) as error:
            await browser.ask("/oauth/known", {"search": "?appId=acme"}, {"Origin": origin})
        assert error.value.code == 403


@pytest.mark.parametrize(
    "body", [None, [], {}, {"search": 7}, {"search": "?a=1" + "&a=1" * 40}, {"search": "x" * 20_000}]
)
async def test_what_the_page_does_not_send_is_refused(browser: Browser, body: Any) -> None:
    for path in ("/oauth/known", "/oauth/known/callback"):
        with pytest.raises(PageError) as error:
            await browser.ask(path, body)
        assert error.value.code in {400, 401}


async def test_sign_ins_under_way_are_bounded(
    knowing: Roost, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.authentication.oauth_states.PER_ADDRESS", 3)
    for _ in range(3):
        await browser.begin()
    with pytest.raises(PageError) as error:
        await browser.begin()
    assert error.value.code == 429
    monkeypatch.setattr("services.authentication.oauth_states.PER_TENANT", 3)
    monkeypatch.setattr("services.authentication.oauth_states.PER_ADDRESS", 100)
    with pytest.raises(PageError) as error:
        await browser.begin()
    assert error.value.code == 429
    assert await browser.begin("globex"), "another app's are not counted"
