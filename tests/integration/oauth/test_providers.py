"""What providers answer, in good and bad faith (LIMITS A11, O7): only what is for this sign-in logs in."""

from __future__ import annotations

from typing import Any

import pytest

from server.main import Roost
from tests.conftest import StartRoost
from tests.integration.oauth.browser import (
    GONE,
    HOME,
    REFUSED,
    Browser,
    PageError,
    count,
    declared,
    fragment,
    keep_secret,
    refused,
    who,
    with_query,
)
from tests.support.client import rest
from tests.support.oidc_provider import CLIENT, SECRET, OpenIdProvider, openid_provider
from tests.support.placed import database_of

WRONG_CLAIMS: dict[str, dict[str, Any]] = {
    "another nonce": {"nonce": "x" * 43},
    "no nonce": {"nonce": None},
    "nonce list": {"nonce": ["x"]},
    "another issuer": {"iss": "https://idp.example"},
    "issuer with a slash": {"iss": "/"},
    "no issuer": {"iss": None},
    "another audience": {"aud": "others"},
    "no audience": {"aud": None},
    "audience of others too, for nobody": {"aud": [CLIENT, "others"]},
    "for another party": {"aud": [CLIENT, "others"], "azp": "others"},
    "alone, for another party": {"azp": "others"},
    "expired": {"exp": 1},
    "no exp": {"exp": None},
    "of tomorrow": {"iat": 2**40},
    "no subject": {"sub": None},
    "subject object": {"sub": {"$ne": ""}},
}


@pytest.mark.parametrize("attack", WRONG_CLAIMS)
async def test_id_tokens_that_are_not_for_this_sign_in(
    knowing: Roost, browser: Browser, provider: OpenIdProvider, attack: str
) -> None:
    provider.claims = WRONG_CLAIMS[attack]
    if provider.claims.get("iss") == "/":
        provider.claims = {"iss": f"{provider.url}/"}
    callback = await browser.visit(await browser.begin())
    assert await refused(browser, callback) == REFUSED
    assert await count(knowing, "users") == 0


async def test_audiences_of_others_too_are_fine_when_it_is_for_us(browser: Browser, provider: OpenIdProvider) -> None:
    provider.claims = {"aud": ["others", CLIENT], "azp": CLIENT}
    assert "access_token" in fragment(await browser.sign_in())


async def test_a_code_of_another_sign_in_is_refused(knowing: Roost, browser: Browser) -> None:
    """Code injection: a stolen code does not go with the thief's state, whose verifier is another one."""
    stolen = await browser.visit(await browser.begin())
    own = await browser.visit(await browser.begin())
    code = stolen.partition("code=")[2].partition("&")[0]
    assert await refused(browser, with_query(own, code=code)) == REFUSED
    assert await count(knowing, "users") == 0


async def test_a_mix_up_of_providers_is_refused(roosts: StartRoost, provider: OpenIdProvider, browser: Browser) -> None:
    """RFC 9207: an answer of one provider never reaches another, by its address and by its `iss`."""
    async with openid_provider() as evil:
        text = declared(provider).replace(
            '"known": {',
            f'"evil": {{"issuer": "{evil.url}", "client_id": "{CLIENT}", "redirects": ["{HOME}"]}}, "known": {{',
        )
        evil.secret = None
        roost = await roosts(text, outbound_private=True)
        await keep_secret(roost)
        tab = Browser(roost, browser.session)
        assert "access_token" in fragment(await tab.sign_in(provider="evil"))
        asked = await tab.begin(provider="evil")
        # The evil one sends the browser on to the honest one, with the state of its own sign-in.
        honest = with_query(asked.replace(evil.url, provider.url), redirect_uri=f"{roost.url}/oauth/known/callback")
        with pytest.raises(PageError, match=GONE):
            await tab.come_back(await tab.visit(honest))
        asked = await tab.begin(provider="evil")
        callback = await tab.visit(asked.replace(evil.url, provider.url))
        forms = len(evil.forms)
        assert await refused(tab, callback) == REFUSED
        assert len(evil.forms) == forms, "the honest one's code is not shown to the evil one"
        evil.description = {"authorization_response_iss_parameter_supported": True}
        asked = await tab.begin(provider="evil")
        assert await refused(tab, with_query(await tab.visit(asked), iss=None)) == REFUSED


async def test_without_rfc_9207_the_issuer_may_be_missing(browser: Browser, provider: OpenIdProvider) -> None:
    provider.description = {"authorization_response_iss_parameter_supported": None}
    provider.answer = {"iss": ""}
    assert "access_token" in fragment(await browser.sign_in())


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        ("access_denied", "The sign-in was cancelled"),
        ("<script>alert(1)</script>", "The identity provider has refused the sign-in"),
    ],
)
async def test_what_a_provider_refuses_is_told_in_our_own_words(
    browser: Browser, provider: OpenIdProvider, error: str, sentence: str
) -> None:
    provider.answer = {"code": "", "error": error, "error_description": "Call 555 now"}
    assert await refused(browser, await browser.visit(await browser.begin())) == sentence


async def test_a_provider_that_is_down_costs_its_own_sign_in_alone(
    knowing: Roost, browser: Browser, provider: OpenIdProvider
) -> None:
    callback = await browser.visit(await browser.begin())
    provider.is_down = True
    assert "no good answer at the moment" in await refused(browser, callback)
    async with rest(knowing, "acme") as http:
        await http.sign_up("ada")
    provider.is_down = False
    assert "access_token" in fragment(await browser.sign_in())


async def test_a_provider_that_was_never_reached_is_503_and_asked_seldom(
    browser: Browser, provider: OpenIdProvider
) -> None:
    provider.is_down = True
    for _ in range(3):
        with pytest.raises(PageError) as error:
            await browser.begin()
        assert (error.value.code, "try again" in error.value.message) == (503, True)
    assert len(provider.asked) == 1


FAULTS: dict[str, tuple[int, Any]] = {
    "no json": (200, b"<html>"),
    "a list": (200, []),
    "a number": (200, 7),
    "null": (200, b"null"),
    "deep": (200, b"[" * 100_000),
    "no text": (200, b"\xff\xfe"),
    "nothing": (200, {}),
    "odd expiry": (200, {"access_token": "x", "expires_in": "soon"}),
    "odd scope": (200, {"access_token": "x", "scope": 7}),
    "a token that is none": (200, {"access_token": "x", "id_token": {"a": 1}}),
    "no id token": (200, {"access_token": "x"}),
    "odd error": (400, {"error": {"a": [SECRET]}}),
    "an error that tells": (400, {"error": SECRET, "error_description": SECRET}),
    "moved": (302, b""),
    "failed": (500, {"error": "invalid_grant"}),
    "too long": (200, b"x" * 300_000),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_whatever_the_token_endpoint_answers_is_an_error_of_ours(
    browser: Browser, provider: OpenIdProvider, fault: str, capfd: pytest.CaptureFixture[str]
) -> None:
    callback = await browser.visit(await browser.begin())
    provider.fault = FAULTS[fault]
    sentence = await refused(browser, callback)
    assert sentence == REFUSED or "identity provider" in sentence
    assert SECRET not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    "description",
    [
        {"issuer": "https://other.example"},
        {"issuer": None},
        {"token_endpoint": None},
        {"jwks_uri": 7},
        {"authorization_endpoint": ""},
    ],
)
async def test_a_description_that_does_not_fit_is_none(
    browser: Browser, provider: OpenIdProvider, description: dict[str, Any]
) -> None:
    provider.description = description
    with pytest.raises(PageError) as error:
        await browser.begin()
    assert error.value.code == 503


@pytest.mark.parametrize(
    "address", ["javascript:alert(1)", "data:text/html,x", "ftp://x.example", "https://u@x.example"]
)
async def test_nobody_is_sent_to_what_is_no_web_address(
    browser: Browser, provider: OpenIdProvider, address: str
) -> None:
    provider.description = {"authorization_endpoint": address}
    with pytest.raises(PageError) as error:
        await browser.begin()
    assert error.value.code == 503


async def test_private_addresses_are_not_asked_unless_a_setting_allows_it(
    roosts: StartRoost, provider: OpenIdProvider, browser: Browser
) -> None:
    """O7."""
    roost = await roosts(declared(provider))
    with pytest.raises(PageError) as error:
        await Browser(roost, browser.session).begin()
    assert error.value.code == 503
    assert provider.asked == []


async def test_a_new_client_secret_counts_at_once(knowing: Roost, browser: Browser, provider: OpenIdProvider) -> None:
    """TC-10."""
    assert "access_token" in fragment(await browser.sign_in())
    provider.secret = "the next one"
    assert "operator" in await refused(browser, await browser.visit(await browser.begin()))
    await keep_secret(knowing, "the next one")
    assert "access_token" in fragment(await browser.sign_in())
    await knowing.backend.secrets.forget("acme", "login-provider")
    with pytest.raises(PageError, match="operator"):
        await browser.begin()


async def test_no_secret_is_ever_told(
    roosts: StartRoost, provider: OpenIdProvider, browser: Browser, capfd: pytest.CaptureFixture[str]
) -> None:
    """A11, RF-9: neither the client secret nor what travels in a sign-in is in an answer, an error, a log or an audit entry."""
    roost = await roosts(declared(provider), outbound_private=True, log_level="debug")
    await keep_secret(roost)
    tab = Browser(roost, browser.session)
    proofs: list[str] = []
    for fault in (None, *FAULTS.values()):
        callback = await tab.visit(await tab.begin())
        proofs += tab.storage.values()
        provider.fault = fault
        await tab.come_back(callback)
        provider.fault = None
    await roost.backend.audit.settled()
    database = database_of(roost)
    entries = [entry async for entry in database["audit_log"].find({"app_id": "acme"})]
    assert {entry["details"].get("provider") for entry in entries if entry["event"] == "sign-in"} == {"known"}
    log = "".join(capfd.readouterr())
    codes = [form["code"] for form in provider.forms]
    verifiers = [form["code_verifier"] for form in provider.forms]
    for secret in (SECRET, *codes, *verifiers):
        assert secret not in "".join(tab.told), "answers"
    for secret in (SECRET, *codes, *verifiers, *proofs):
        assert secret not in log
        assert secret not in repr(entries)


@pytest.mark.parametrize("way", ["basic", "post", None])
async def test_the_secret_is_shown_as_the_provider_wants_it(
    roosts: StartRoost, provider: OpenIdProvider, browser: Browser, way: str | None
) -> None:
    provider.description = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
    roost = await roosts(declared(provider, client_auth=way), outbound_private=True)
    await keep_secret(roost)
    assert "access_token" in fragment(await Browser(roost, browser.session).sign_in())
    assert ("client_secret" in provider.forms[0]) == (way != "basic")


async def test_a_provider_without_descriptions_is_asked_who_it_was(
    roosts: StartRoost, provider: OpenIdProvider, browser: Browser
) -> None:
    endpoints = {
        "authorization": f"{provider.url}/authorize",
        "token": f"{provider.url}/token",
        "userinfo": f"{provider.url}/userinfo",
    }
    profile = {"nick": "login", "contact": "email"}
    roost = await roosts(
        declared(provider, issuer=None, endpoints=endpoints, scopes=None, profile=profile), outbound_private=True
    )
    await keep_secret(roost)
    tab = Browser(roost, browser.session)
    user = await who(roost, fragment(await tab.sign_in())["access_token"])
    assert user == {"_id": user["_id"], "nick": "ada"}
    assert (await who(roost, fragment(await tab.sign_in())["access_token"]))["_id"] == user["_id"]
    provider.claims = {"id": {"$ne": 7}}
    assert "no good answer" in await refused(tab, await tab.visit(await tab.begin()))
