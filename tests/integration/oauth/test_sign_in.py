"""Signing in by another provider, page after page: who it is, where it leads, and that nobody else is let in (LIMITS A4)."""

from __future__ import annotations

import asyncio

import pytest

from server.main import Roost
from tests.conftest import StartRoost
from tests.integration.authentication.people import sign_up
from tests.integration.oauth.browser import (
    OTHER,
    Browser,
    PageError,
    count,
    declared,
    fragment,
    keep_secret,
    who,
)
from tests.support.client import connect, rest
from tests.support.oidc_provider import OpenIdProvider


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
async def test_a_sign_in_leads_back_to_the_app_with_a_token(
    knowing: Roost, browser: Browser, provider: OpenIdProvider, algorithm: str
) -> None:
    provider.algorithm = algorithm
    behind = fragment(await browser.sign_in())
    assert [*behind] == ["access_token"]
    user = await who(knowing, behind["access_token"])
    assert user == {"_id": user["_id"]}
    assert provider.forms[0]["grant_type"] == "authorization_code"
    assert provider.forms[0]["redirect_uri"] == f"{knowing.url}/oauth/known/callback"
    again = fragment(await browser.sign_in(redirect=OTHER), OTHER)
    assert (await who(knowing, again["access_token"]))["_id"] == user["_id"], "one person, one user"
    provider.person = "bob"
    other = fragment(await browser.sign_in(redirect="/welcome"))
    assert (await who(knowing, other["access_token"]))["_id"] != user["_id"]
    assert provider.asked.count("/.well-known/openid-configuration") == 1
    assert provider.asked.count("/keys") == 1
    async with connect(knowing, "acme") as socket:
        await socket.call("create", "authentication", {"strategy": "jwt", "accessToken": behind["access_token"]}, {})
        assert (await socket.call("find", "notes", {}))["total"] == 0


async def test_each_app_has_its_own_users_of_a_provider(knowing: Roost, browser: Browser) -> None:
    here = await who(knowing, fragment(await browser.sign_in("acme"))["access_token"])
    there = await who(knowing, fragment(await browser.sign_in("globex"))["access_token"], "globex")
    assert here["_id"] != there["_id"]
    for app_id in ("initech", "nobody"):
        with pytest.raises(PageError) as error:
            await browser.begin(app_id)
        assert error.value.code == 404
    with pytest.raises(PageError, match="has no sign-in by"):
        await browser.begin(provider="unknown")


async def test_many_first_sign_ins_at_once_make_one_user(
    knowing: Roost, browser: Browser, provider: OpenIdProvider
) -> None:
    pages = await asyncio.gather(*(browser.sign_in() for _ in range(10)))
    users = [await who(knowing, fragment(page)["access_token"]) for page in pages]
    assert len({user["_id"] for user in users}) == 1
    assert await count(knowing, "users") == 1
    for document in ("/.well-known/openid-configuration", "/keys"):
        assert provider.asked.count(document) == 1, "all wait for one fetch"


async def test_an_e_mail_address_takes_nothing_over(knowing: Roost, browser: Browser, provider: OpenIdProvider) -> None:
    """A4: whatever address the provider tells, verified or not, known here or not, it finds nobody, and answers alike."""
    async with rest(knowing, "acme") as http:
        _, victim = await sign_up(http, "victim@example.com")
    for number, (address, verified) in enumerate(
        [
            ("victim@example.com", True),
            ("victim@example.com", False),
            ("nobody@example.com", True),
            ("new@e.example", None),
        ]
    ):
        provider.person = f"attacker-{number}"
        provider.claims = {"email": address, "email_verified": verified, "username": address, "nickname": "Neo"}
        user = await who(knowing, fragment(await browser.sign_in())["access_token"])
        assert user["_id"] != victim["_id"]
        expected = {"_id": user["_id"], "nick": "Neo"}
        assert user == ({**expected, "contact": address} if verified else expected)


async def test_browsers_may_reach_the_server_under_another_name(
    roosts: StartRoost, provider: OpenIdProvider, browser: Browser
) -> None:
    """The setting says which; what a request calls its host counts for nothing."""
    roost = await roosts(declared(provider), outbound_private=True, public_url="https://api.example.com")
    await keep_secret(roost)
    tab = Browser(roost, browser.session)
    own = {"Origin": "https://api.example.com", "Host": "attacker.example", "X-Forwarded-Host": "attacker.example"}
    begun = await tab.ask("/oauth/known", {"search": "?appId=acme"}, own)
    assert "redirect_uri=https%3A%2F%2Fapi.example.com%2Foauth%2Fknown%2Fcallback" in begun["location"]
    with pytest.raises(PageError, match=r"begun at https://api\.example\.com"):
        await tab.begin()
