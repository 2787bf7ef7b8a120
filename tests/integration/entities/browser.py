"""A browser that is signed in to an app, and a client of the app: what both send to `/oauth/session|authorize|token`."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt

from server.main import Roost
from services.authentication.codes import challenge_of
from tests.integration.entities.people import HUB, administrator, field_of
from tests.support.client import PASSWORD, Reply, Rest, fresh, rest
from tests.support.placed import database_of

CALLBACK = "https://other.example/signed-in?from=roost"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@dataclass
class Browser:
    """Keeps cookies by name, as an http client that is its own browser."""

    http: Rest
    app: str
    client: str
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))
    cookies: dict[str, str] = field(default_factory=dict)
    login: Any = None

    async def keep(self) -> Reply:
        """The signed-in page has the browser keep its session."""
        token = self.login["accessToken"]
        reply = await self.http.request(
            "POST", f"/oauth/session?appId={self.app}", headers={"Authorization": f"Bearer {token}"}
        )
        if reply.status == 204:
            for name, morsel in SimpleCookie(reply.headers["Set-Cookie"]).items():
                self.cookies[name] = morsel.value
        return reply

    async def open(self, **changed: str | None) -> Reply:
        """Opens the authorization endpoint; what is changed to None is left out."""
        fields: dict[str, str | None] = {
            "appId": self.app,
            "response_type": "code",
            "client_id": self.client,
            "redirect_uri": CALLBACK,
            "state": "a state & more",
            "code_challenge": challenge_of(self.verifier),
            "code_challenge_method": "S256",
            "prompt": "none",
            **changed,
        }
        query = urlencode({name: value for name, value in fields.items() if value is not None})
        return await self.http.request("GET", f"/oauth/authorize?{query}", headers=self.sent())

    def sent(self) -> dict[str, str]:
        """The header with its cookies."""
        return {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())} if self.cookies else {}

    async def back(self, **changed: str | None) -> dict[str, str]:
        """The fields with which the browser comes back to the client's page."""
        reply = await self.open(**changed)
        assert reply.status == 303, reply.body
        return fields_of(reply.headers["Location"])

    async def exchange(self, code: str, **changed: str) -> Reply:
        """What the client's page sends for the code."""
        data = {
            "grant_type": "authorization_code",
            "code": code,
            "code_verifier": self.verifier,
            "client_id": self.client,
            "redirect_uri": CALLBACK,
            **changed,
        }
        return await self.post(data)

    async def renew(self, token: str, **changed: str) -> Reply:
        """What it sends for a refresh token."""
        return await self.post(
            {"grant_type": "refresh_token", "refresh_token": token, "client_id": self.client, **changed}
        )

    async def post(self, data: dict[str, str], **headers: str) -> Reply:
        """One request to the token endpoint."""
        return await self.http.request(
            "POST", f"/oauth/token?appId={self.app}", raw=urlencode(data).encode(), headers={**FORM, **headers}
        )

    async def tokens(self, **changed: str | None) -> dict[str, Any]:
        """The whole way."""
        reply = await self.exchange((await self.back(**changed))["code"])
        assert reply.status == 200, reply.body
        return dict(reply.json)


def fields_of(location: str) -> dict[str, str]:
    """The fields behind the question mark of the client's address, each once."""
    assert location.startswith(f"{CALLBACK}&"), location
    assert not urlsplit(location).fragment
    found = parse_qs(urlsplit(location).query, strict_parsing=True)
    assert found.pop("from") == ["roost"]
    assert all(len(values) == 1 for values in found.values())
    return {name: values[0] for name, values in found.items()}


async def make_client(served: Roost, app: str = HUB, **more: Any) -> str:
    """A new client of an app; its id."""
    async with administrator(served, app) as ada:
        client = await ada.call("create", "clients", {"name": fresh("client"), "callbacks": [CALLBACK], **more})
    return str(client["_id"])


@asynccontextmanager
async def browsing(
    served: Roost, name: str, *, app: str = HUB, client: str | None = None, kept: bool = True, refresh: bool = True
) -> AsyncIterator[Browser]:
    """The browser of somebody who is logged in to the app, which keeps the session."""
    async with rest(served, None) as http:
        browser = Browser(http, app, client or await make_client(served, app))
        data = {"strategy": "local", field_of(app): name, "password": PASSWORD, "refresh": refresh}
        reply = await http.request("POST", "/authentication", data, headers={"x-app-id": app})
        browser.login = reply.json
        if kept:
            assert (await browser.keep()).status == 204
        yield browser


def claims_of(token: str) -> dict[str, Any]:
    """What an access token says."""
    return dict(jwt.decode(token, options={"verify_signature": False}))


def records(served: Roost, name: str) -> Any:
    """A collection of the control plane's."""
    return database_of(served, HUB)[name]


async def status_at(served: Roost, token: str, app: str, path: str = "/roles") -> int:
    """How a request with an access token is answered."""
    async with rest(served, app) as http:
        return (await http.request("GET", path, headers={"Authorization": f"Bearer {token}"})).status
