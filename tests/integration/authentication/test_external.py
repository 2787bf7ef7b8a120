"""Logging in with a token of the tenant's identity provider: its keys are fetched, and its subjects become users."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from hooks.context import Params, Record
from hooks.errors import Conflict
from server.main import Roost
from services.authentication.directory import Directory
from services.authentication.identities import Identities
from tests.conftest import StartRoost
from tests.integration.authentication.people import is_in, refresh, refused, sign_up, status, tenant_of
from tests.support.client import Rest, connect, rest
from tests.support.placed import database_of
from tests.unit.authentication.provider import AUDIENCE, EC_JWK, ISSUER, JWKS, RSA_JWK, claims, sign


@dataclass
class Provider:
    """An identity provider's key set, served over HTTP."""

    url: str = ""
    jwks: Any = field(default_factory=lambda: {"keys": [EC_JWK]})
    asked: int = 0

    async def answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        return web.json_response(self.jwks)


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    """A provider on this machine."""
    found = Provider()
    app = web.Application()
    app.router.add_get("/keys", found.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/keys"
    yield found
    await runner.cleanup()


def declared(**external: Any) -> str:
    """An app that trusts the provider, and one that trusts nobody."""
    settings = {"issuer": ISSUER, "audience": AUDIENCE, "tenant_value": "acme", **external}
    acme = {
        "id": "acme",
        "auth": {"external": settings},
        "services": {"notes": {"rules": {"default": "authenticated"}}},
    }
    return json.dumps({"tenants": [acme, {"id": "globex"}]})


@pytest.fixture
async def trusting(roosts: StartRoost) -> Roost:
    """A server whose app `acme` names the provider's keys itself."""
    return await roosts(declared(jwks=JWKS))


def by_token(token: object) -> dict[str, object]:
    """What logs in by a provider's token."""
    return {"strategy": "external", "token": token}


async def log_in(http: Rest, **more: Any) -> Any:
    """The answer to a login by a token with these claims."""
    return await http.call("create", "authentication", by_token(sign(claims(time.time(), **more))))


async def test_a_subject_becomes_one_user(trusting: Roost) -> None:
    async with rest(trusting, "acme") as http, connect(trusting, "acme") as socket:
        first = await log_in(http)
        assert set(first) == {"accessToken", "authentication", "user"}
        assert first["user"] == {"_id": first["user"]["_id"]}
        assert first["authentication"]["strategy"] == "external"
        assert first["authentication"]["payload"]["iss"] == "roost", "a token of our own"
        assert await status(http, first) == 200
        token = sign(claims(time.time()), kid="r1")
        again = await socket.call("create", "authentication", {**by_token(token), "refresh": True}, {})
        assert again["user"] == first["user"]
        assert await is_in(socket)
        assert (await refresh(http, again["refreshToken"]))["user"] == first["user"]
        other = await log_in(http, sub="bob")
        assert other["user"]["_id"] != first["user"]["_id"]
        identities = database_of(trusting)["identities"]
        assert await identities.count_documents({"app_id": "acme"}) == 2


async def test_many_first_logins_at_once_make_one_user(trusting: Roost) -> None:
    async with rest(trusting, "acme") as http:
        answers = await asyncio.gather(*(log_in(http) for _ in range(20)))
        assert len({answer["user"]["_id"] for answer in answers}) == 1
        users = database_of(trusting)["users"]
        assert await users.count_documents({"app_id": "acme"}) == 1


async def test_a_provider_cannot_name_one_of_our_users(trusting: Roost) -> None:
    async with rest(trusting, "acme") as http:
        name, user = await sign_up(http)
        for subject in (user["_id"], name):
            answer = await log_in(http, sub=subject, username=name, email=name, permissions=["admin"])
            assert answer["user"] == {"_id": answer["user"]["_id"]}
            assert answer["user"]["_id"] != user["_id"]


async def test_a_removed_user_is_a_new_one_at_the_next_login(trusting: Roost) -> None:
    async with rest(trusting, "acme") as http:
        first = await log_in(http)
        http.headers["Authorization"] = f"Bearer {first['accessToken']}"
        await http.call("remove", "users", first["user"]["_id"])
        second = await log_in(http)
        assert second["user"]["_id"] != first["user"]["_id"]


async def test_a_user_that_was_lost_half_way_is_made_at_the_next_login(trusting: Roost) -> None:
    async with rest(trusting, "acme") as http:
        first = await log_in(http)
        users = database_of(trusting)["users"]
        await users.delete_one({"app_id": "acme"})
        assert (await log_in(http))["user"] == first["user"]


async def test_a_bad_token_is_401_and_makes_nobody(trusting: Roost) -> None:
    async with rest(trusting, "acme") as http:
        for token in (None, "", "a.b.c", sign(claims(time.time(), tid="globex")), sign(claims(time.time() - 3600))):
            error = await refused(http, "create", "authentication", by_token(token))
            assert (error.code, error.message) == (401, "invalid token")
        users = database_of(trusting)["users"]
        assert await users.count_documents({"app_id": "acme"}) == 0
        assert await status(http, {"accessToken": sign(claims(time.time()))}) == 401, "it logs in, it is no login"


async def test_a_tenant_that_trusts_nobody_takes_no_token(trusting: Roost) -> None:
    async with rest(trusting, "globex") as http:
        error = await refused(http, "create", "authentication", by_token(sign(claims(time.time()))))
        assert (error.code, "not allowed" in error.message) == (401, True)


async def test_keys_are_fetched_and_new_ones_found(roosts: StartRoost, provider: Provider) -> None:
    roost = await roosts(declared(jwks_url=provider.url), outbound_private=True)
    async with rest(roost, "acme") as http:
        await asyncio.gather(*(log_in(http) for _ in range(5)))
        assert provider.asked == 1
        provider.jwks = {"keys": [EC_JWK, RSA_JWK]}
        token = sign(claims(time.time()), kid="r1")
        assert (await refused(http, "create", "authentication", by_token(token))).code == 401
        assert provider.asked == 1, "not again so soon"


async def test_private_addresses_are_not_asked_unless_a_setting_allows_it(
    roosts: StartRoost, provider: Provider
) -> None:
    roost = await roosts(declared(jwks_url=provider.url))
    async with rest(roost, "acme") as http:
        error = await refused(http, "create", "authentication", by_token(sign(claims(time.time()))))
        assert error.code == 503, "which leaves clients their tokens"
        assert provider.asked == 0


async def test_a_provider_that_is_down_is_503(roosts: StartRoost, provider: Provider) -> None:
    roost = await roosts(declared(jwks_url=provider.url), outbound_private=True)
    provider.jwks = "no key set"
    async with rest(roost, "acme") as http:
        for _ in range(3):
            error = await refused(http, "create", "authentication", by_token(sign(claims(time.time()))))
            assert error.code == 503
        assert provider.asked == 1


async def test_a_login_that_meets_the_removal_of_its_user_begins_anew(roosts: StartRoost) -> None:
    """Another login of the same person has made the user, who is gone again before this one looks."""
    roost = await roosts("tenants: [{id: acme}]")
    params = Params(tenant=tenant_of(roost, "acme"))

    class Unlucky(Directory):
        """Is overtaken once."""

        removed = ""

        async def add(self, params: Params, data: Record) -> Record:
            made = await super().add(params, data)
            if not self.removed:
                self.removed = str(made["_id"])
                await roost.app.call("users", "remove", Params(tenant=params.tenant), id=made["_id"])
                raise Conflict()
            return made

    directory = Unlucky(roost.app)
    identities = Identities(roost.backend.isolation, directory)
    user = await identities.user_of(params, "https://idp.example", "ada")
    assert str(user["_id"]) != directory.removed
    assert await identities.user_of(params, "https://idp.example", "ada") == user
