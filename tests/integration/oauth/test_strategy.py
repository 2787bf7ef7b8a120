"""The strategy `oauth` for pages and programs that receive the code themselves, and the linking of accounts."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
from typing import Any

import pytest

from server.main import Roost
from services.api_keys import ADMIN
from services.users import grant
from tests.integration.authentication.people import is_in, log_in, refresh, refused, sign_up, status, tenant_of
from tests.integration.oauth.browser import HOME, OTHER, Browser, PageError, fragment
from tests.support.client import Caller, connect, rest, until
from tests.support.oidc_provider import CLIENT, OpenIdProvider
from tests.support.placed import database_of

REFUSED = "The sign-in was not accepted: begin again"


def received(provider: OpenIdProvider, /, **more: Any) -> dict[str, Any]:
    """What a page has after its own way to the provider and back: the data of a login."""
    verifier, nonce = secrets.token_urlsafe(32), secrets.token_urlsafe(8)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    asked = {"redirect_uri": HOME, "code_challenge": challenge, "nonce": nonce, "scope": "openid", "client_id": CLIENT}
    data = {
        "strategy": "oauth",
        "provider": "known",
        "code": provider.code(asked),
        "code_verifier": verifier,
        "redirect_uri": HOME,
        "nonce": nonce,
        "iss": provider.url,
        **more,
    }
    return {name: value for name, value in data.items() if value is not None}


async def sign_in(caller: Caller, provider: OpenIdProvider, /, **more: Any) -> Any:
    """The answer to a login by a fresh code."""
    return await caller.call("create", "authentication", received(provider, **more))


async def test_a_page_logs_in_with_the_code_that_it_received(knowing: Roost, provider: OpenIdProvider) -> None:
    async with connect(knowing, "acme") as socket, rest(knowing, "acme") as http:
        first = await sign_in(socket, provider, refresh=True)
        assert set(first) == {"accessToken", "authentication", "user", "refreshToken"}
        assert first["authentication"]["strategy"] == "oauth"
        assert await is_in(socket)
        assert (await refresh(http, first["refreshToken"]))["user"] == first["user"]
        assert (await sign_in(http, provider))["user"] == first["user"]
        page = fragment(await Browser(knowing, http.session).sign_in())
        assert await status(http, {"accessToken": page["access_token"]}) == 200
        again = await http.call("create", "authentication", {"strategy": "jwt", "accessToken": page["access_token"]})
        assert again["user"] == first["user"], "by whichever way, one person is one user"


BAD: dict[str, dict[str, Any]] = {
    "no provider": {"provider": None},
    "unknown provider": {"provider": "other"},
    "provider list": {"provider": ["known"]},
    "provider object": {"provider": {"$ne": ""}},
    "no code": {"code": None},
    "code object": {"code": {"$ne": ""}},
    "empty code": {"code": ""},
    "long code": {"code": "x" * 5000},
    "code with a line break": {"code": "a\r\nb"},
    "unknown code": {"code": "x"},
    "no verifier": {"code_verifier": None},
    "short verifier": {"code_verifier": "x" * 42},
    "another verifier": {"code_verifier": "x" * 43},
    "verifier of odd letters": {"code_verifier": "x" * 42 + "&"},
    "no redirect": {"redirect_uri": None},
    "another redirect": {"redirect_uri": OTHER},
    "undeclared redirect": {"redirect_uri": "https://attacker.example/"},
    "redirect as a path": {"redirect_uri": "/welcome"},
    "another nonce": {"nonce": "x"},
    "no nonce": {"nonce": None},
    "nonce object": {"nonce": {"$ne": ""}},
    "another issuer": {"iss": "https://evil.example"},
    "issuer missing where it is promised": {"iss": None},
}


BEFORE = {
    "undeclared redirect",
    "redirect as a path",
    "short verifier",
    "verifier of odd letters",
    "code with a line break",
}


@pytest.mark.parametrize("attack", BAD)
async def test_what_does_not_belong_together_logs_nobody_in(
    knowing: Roost, provider: OpenIdProvider, attack: str
) -> None:
    async with rest(knowing, "acme") as http:
        error = await refused(http, "create", "authentication", received(provider, **BAD[attack]))
        assert error.code in {400, 401}
        if attack in BEFORE:
            assert (error.code, provider.forms) == (400, []), "the code is not even shown to the provider"
        users = database_of(knowing)["users"]
        assert await users.count_documents({"app_id": "acme"}) == 0


async def test_a_client_cannot_speak_for_the_server_s_own_pages(knowing: Roost, provider: OpenIdProvider) -> None:
    """The server's pages hand a grant over as an object that no JSON is."""
    async with rest(knowing, "acme") as http:
        _, victim = await sign_up(http)
        data = received(provider)
        forged = {"code": data["code"], "verifier": data["code_verifier"], "redirect_uri": HOME, "nonce": data["nonce"]}
        forged["login"] = {"sub": victim["_id"]}
        bare = {"strategy": "oauth", "provider": "known", "grant": forged}
        assert (await refused(http, "create", "authentication", bare)).code == 400
        answer = await http.call("create", "authentication", {**data, "grant": forged})
        assert answer["user"]["_id"] != victim["_id"]


async def test_one_code_used_by_many_at_once_logs_in_once(knowing: Roost, provider: OpenIdProvider) -> None:
    async with rest(knowing, "acme") as http:
        data = received(provider)
        found = await asyncio.gather(
            *(http.call("create", "authentication", data) for _ in range(20)), return_exceptions=True
        )
        assert sum(isinstance(answer, dict) for answer in found) == 1


async def test_who_is_logged_in_links_a_person_to_the_account(knowing: Roost, provider: OpenIdProvider) -> None:
    async with connect(knowing, "acme") as socket, rest(knowing, "acme") as http:
        name, user = await sign_up(socket)
        error = await refused(socket, "create", "authentication", received(provider, link=True))
        assert error.code == 401
        await log_in(socket, name)
        for _ in range(2):
            linked = await sign_in(socket, provider, link=True)
            assert linked["user"] == user
        assert (await sign_in(http, provider))["user"]["_id"] == user["_id"]
        # By REST, with a token.
        login = await log_in(http, name)
        http.headers["Authorization"] = f"Bearer {login['accessToken']}"
        provider.person = "second"
        assert (await sign_in(http, provider, link=True))["user"]["_id"] == user["_id"]
        assert (await sign_in(socket, provider))["user"]["_id"] == user["_id"]


async def test_who_belongs_to_one_account_is_not_linked_to_another(knowing: Roost, provider: OpenIdProvider) -> None:
    async with connect(knowing, "acme") as socket, connect(knowing, "acme") as other:
        name, user = await sign_up(socket)
        owner = (await sign_in(other, provider))["user"]
        await log_in(socket, name)
        error = await refused(socket, "create", "authentication", received(provider, link=True))
        assert (error.code, "another account" in error.message) == (409, True)
        assert owner["_id"] not in str(error.wire)
        assert (await sign_in(other, provider))["user"]["_id"] == owner["_id"] != user["_id"]


async def test_of_many_who_link_one_person_one_succeeds(knowing: Roost, provider: OpenIdProvider) -> None:
    async with rest(knowing, "acme") as http:
        logins = []
        for _ in range(5):
            name, _ = await sign_up(http)
            logins.append(await log_in(http, name))

        async def link(login: Any) -> bool:
            headers = {"Authorization": f"Bearer {login['accessToken']}"}
            reply = await http.request("POST", "/authentication", received(provider, link=True), headers=headers)
            assert reply.status in {201, 409}
            return reply.status == 201

        assert sum(await asyncio.gather(*map(link, logins))) == 1


async def test_an_api_key_is_nobody_to_be_linked(knowing: Roost, provider: OpenIdProvider) -> None:
    async with rest(knowing, "acme") as http:
        name, _ = await sign_up(http)
        await grant(knowing.backend.isolation, tenant_of(knowing, "acme"), name, ADMIN)
        login = await log_in(http, name)
        bearer = {"Authorization": f"Bearer {login['accessToken']}"}
        made = await http.request("POST", "/api-keys", {"name": "shop", "scopes": ["*"]}, headers=bearer)
        key = {"X-Api-Key": made.json["key"]}
        reply = await http.request("POST", "/authentication", received(provider, link=True), headers=key)
        assert (reply.status, reply.json["message"]) == (401, "Only a user's account can be linked")


async def test_the_page_links_for_whom_the_token_behind_the_hash_speaks(
    knowing: Roost, browser: Browser, provider: OpenIdProvider
) -> None:
    async with rest(knowing, "acme") as http:
        name, user = await sign_up(http)
        login = await log_in(http, name)
        token = login["accessToken"]
        behind = fragment(await browser.come_back(await browser.visit(await browser.begin(token=token))))
        answer = await http.call("create", "authentication", {"strategy": "jwt", "accessToken": behind["access_token"]})
        assert answer["user"]["_id"] == user["_id"]
        for unfit in ("x", token[:-6] + "AAAAAA"):
            with pytest.raises(PageError) as error:
                await browser.begin(token=unfit)
            assert error.value.code == 401
        with pytest.raises(PageError, match="behind a '#'"):
            await browser.begin(feathers_token=token)
        # Another app's token links nothing here.
        with pytest.raises(PageError) as error:
            await browser.begin("globex", token=token)
        assert error.value.code == 403
        entries = database_of(knowing)["audit_log"]
        chosen = {"app_id": "acme", "event": "sign-in", "details.linked": "yes", "outcome": "success"}

        async def is_noted() -> bool:
            return bool(await entries.count_documents(chosen) == 1)

        await until(is_noted)


async def test_a_login_that_ends_meanwhile_links_nothing(
    knowing: Roost, browser: Browser, provider: OpenIdProvider
) -> None:
    async with rest(knowing, "acme") as http:
        name, _ = await sign_up(http)
        login = await log_in(http, name)
        callback = await browser.visit(await browser.begin(token=login["accessToken"]))
        await http.request("DELETE", "/authentication", headers={"Authorization": f"Bearer {login['accessToken']}"})
        behind = fragment(await browser.come_back(callback))
        assert behind == {"error": "The session has ended: log in again"}
        assert provider.forms == [], "the code is not even shown to the provider"


async def test_a_removed_user_s_identities_are_free_again(knowing: Roost, provider: OpenIdProvider) -> None:
    async with rest(knowing, "acme") as http:
        first = await sign_in(http, provider)
        http.headers["Authorization"] = f"Bearer {first['accessToken']}"
        await http.call("remove", "users", first["user"]["_id"])
        del http.headers["Authorization"]
        assert (await sign_in(http, provider))["user"]["_id"] != first["user"]["_id"]


async def test_an_app_that_does_not_list_the_strategy_has_none(knowing: Roost, provider: OpenIdProvider) -> None:
    async with rest(knowing, "initech") as http:
        error = await refused(http, "create", "authentication", received(provider))
        assert (error.code, "no such provider" in error.message) == (401, True)
