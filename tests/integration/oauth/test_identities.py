"""The service `identities`: which outside accounts one signs in by, and parting with one, but never with the last way in."""

from __future__ import annotations

import asyncio
from typing import Any

from server.main import Roost
from tests.integration.oauth.browser import Browser, fragment, who
from tests.support.client import PASSWORD, CallError, Rest, outcome, rest, until
from tests.support.oidc_provider import OpenIdProvider


async def signed_in(browser: Browser, provider: OpenIdProvider, person: str, *, token: str = "") -> str:
    """Signs a person in, or links it to the login of the token; the access token."""
    provider.person = person
    page = await browser.come_back(await browser.visit(await browser.begin(token=token)))
    return fragment(page)["access_token"]


def logged_in(http: Rest, token: str) -> None:
    http.headers["Authorization"] = f"Bearer {token}"


async def refused(http: Rest, id: Any, code: int) -> None:
    error = await outcome(http, "remove", "identities", id)
    assert isinstance(error, CallError)
    assert error.code == code, error.message


async def test_a_user_sees_and_unlinks_his_own(knowing: Roost, browser: Browser, provider: OpenIdProvider) -> None:
    """After it, the person is a stranger at the next sign-in; nobody else's identities are shown or touched."""
    token = await signed_in(browser, provider, "ada-1")
    await signed_in(browser, provider, "ada-2", token=token)
    stranger = await signed_in(browser, provider, "eve")
    me = await who(knowing, token)
    async with rest(knowing, "acme") as http, rest(knowing, "acme") as eve:
        logged_in(http, token)
        logged_in(eve, stranger)
        found = await http.call("find", "identities")
        assert [(one["issuer"], one["subject"]) for one in found] == [(provider.url, "ada-1"), (provider.url, "ada-2")]
        assert {*found[0]} == {"_id", "issuer", "subject", "created_at"}
        assert [one["subject"] for one in await eve.call("find", "identities")] == ["eve"]
        await refused(eve, found[0]["_id"], 404)
        await refused(http, "0" * 64, 404)
        assert (await http.call("remove", "identities", found[0]["_id"]))["subject"] == "ada-1"
        assert [one["subject"] for one in await http.call("find", "identities")] == ["ada-2"]
        assert (await who(knowing, token))["_id"] == me["_id"], "and the session goes on"
    assert (await who(knowing, await signed_in(browser, provider, "ada-2")))["_id"] == me["_id"]
    assert (await who(knowing, await signed_in(browser, provider, "ada-1")))["_id"] != me["_id"]


async def test_the_last_way_to_sign_in_stays(knowing: Roost, browser: Browser, provider: OpenIdProvider) -> None:
    """409, and nothing is unlinked, until there is a password."""
    async with rest(knowing, "acme") as http:
        logged_in(http, await signed_in(browser, provider, "ada"))
        (only,) = await http.call("find", "identities")
        await refused(http, only["_id"], 409)
        assert await http.call("find", "identities") == [only]
        user = await http.call("create", "users", {"username": "bob", "password": PASSWORD})
        answer = await http.login("bob")
        assert answer["user"]["_id"] == user["_id"]
        provider.person = "bob-outside"
        await browser.come_back(await browser.visit(await browser.begin(token=answer["accessToken"])))
        (linked,) = await http.call("find", "identities")
        await http.call("remove", "identities", linked["_id"])
        assert await http.call("find", "identities") == []
        assert (await http.login("bob"))["user"]["_id"] == user["_id"]


async def test_of_two_calls_that_would_take_both_one_is_refused(
    knowing: Roost, browser: Browser, provider: OpenIdProvider
) -> None:
    """Each would rely on what the other takes."""
    token = await signed_in(browser, provider, "ada-1")
    await signed_in(browser, provider, "ada-2", token=token)
    async with rest(knowing, "acme") as http:
        logged_in(http, token)
        for _ in range(3):
            ids = [one["_id"] for one in await http.call("find", "identities")]
            answers = await asyncio.gather(*(outcome(http, "remove", "identities", id) for id in ids))
            assert len(ids) == 2
            assert [answer.code for answer in answers if isinstance(answer, CallError)] == [409]
            (left,) = await http.call("find", "identities")
            lost = "ada-1" if left["subject"] == "ada-2" else "ada-2"
            await signed_in(browser, provider, lost, token=token)


async def test_a_password_is_no_way_in_where_the_app_takes_none(
    knowing: Roost, browser: Browser, provider: OpenIdProvider
) -> None:
    """What counts are the ways that the app has."""
    async with rest(knowing, "acme") as http:
        await http.call("create", "users", {"username": "bob", "password": PASSWORD})
        token = (await http.login("bob"))["accessToken"]
        await signed_in(browser, provider, "bob-outside", token=token)
        tenants = knowing.backend.deployment.client[f"{knowing.settings.database}_control"]["tenants"]
        await tenants.update_one({"_id": "acme"}, {"$set": {"auth.strategies": ["oauth", "jwt"]}, "$inc": {"epoch": 1}})

        def is_known() -> bool:
            tenant = knowing.catalogue.peek("acme")
            return tenant is not None and "local" not in tenant.auth.strategies

        await until(is_known)
        (linked,) = await http.call("find", "identities")
        await refused(http, linked["_id"], 409)


async def test_it_takes_a_user(knowing: Roost) -> None:
    """Neither strangers nor API keys have identities."""
    async with rest(knowing, "acme") as http:
        error = await outcome(http, "find", "identities")
        assert isinstance(error, CallError)
        assert error.code == 401
        await refused(http, "0" * 64, 401)
