"""A browser as far as signing in goes: it opens pages, follows redirects, and has a tab's storage; and apps to sign in to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import aiohttp
from yarl import URL

from server.main import Roost
from tests.support.client import rest
from tests.support.oidc_provider import CLIENT, SECRET, OpenIdProvider
from tests.support.placed import database_of

HOME = "https://app.example/welcome"
OTHER = "http://localhost:5173/?page=1"
SECRET_NAME = "login-provider"
REFUSED = "The sign-in was not accepted: begin again"
GONE = "begun in another browser"


def declared(provider: OpenIdProvider, **more: Any) -> str:
    """An app whose users sign in by the provider, and two that know it or nobody."""
    own = {
        "issuer": provider.url,
        "client_id": CLIENT,
        "secret": SECRET_NAME,
        "scopes": ["openid", "email"],
        "redirects": [HOME, OTHER],
        "profile": {"nick": "nickname", "contact": "email"},
        **more,
    }
    oauth = {"known": {name: value for name, value in own.items() if value is not None}}
    services = {"notes": {"rules": {"default": "authenticated"}}}
    apps = [
        {"id": "acme", "auth": {"oauth": oauth}, "services": services},
        {"id": "globex", "auth": {"oauth": oauth}, "services": services},
        {"id": "initech"},
    ]
    return json.dumps({"tenants": apps})


async def keep_secret(roost: Roost, value: str = SECRET) -> None:
    """Sets the client secret of both apps."""
    for app_id in ("acme", "globex"):
        await roost.backend.secrets.put(app_id, SECRET_NAME, value)


class PageError(Exception):
    """What the page shows instead of going on."""

    def __init__(self, wire: Mapping[str, Any]) -> None:
        super().__init__(f"{wire['code']} {wire['message']}")
        self.code: int = wire["code"]
        self.message: str = wire["message"]


@dataclass(slots=True)
class Browser:
    """One tab, which does what the script of the page does."""

    roost: Roost
    session: aiohttp.ClientSession
    storage: dict[str, str] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    """All that it was answered."""

    async def begin(self, app_id: str = "acme", provider: str = "known", *, token: str = "", **query: str) -> str:
        """Opens the app's link to a provider; the address there."""
        search = "?" + urlencode({"appId": app_id, **query})
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        begun = await self.ask(f"/oauth/{provider}", {"search": search}, headers)
        self.storage[begun["state"]] = begun["proof"]
        return str(begun["location"])

    async def visit(self, address: str) -> str:
        """Opens an address elsewhere; where it redirects to."""
        async with self.session.get(URL(address, encoded=True), allow_redirects=False) as response:
            assert response.status == 302, await response.text()
            return response.headers["Location"]

    async def come_back(self, address: str) -> str:
        """Opens the callback; the app's page to which it leads."""
        parts = urlsplit(address)
        assert f"{parts.scheme}://{parts.netloc}" == self.roost.url
        state = dict(parse_qsl(parts.query)).get("state", "")
        proof = self.storage.pop(state, None)
        ended = await self.ask(parts.path, {"search": f"?{parts.query}", "proof": proof})
        return str(ended["location"])

    async def sign_in(self, app_id: str = "acme", provider: str = "known", **query: str) -> str:
        """All of it; the app's page."""
        return await self.come_back(await self.visit(await self.begin(app_id, provider, **query)))

    async def ask(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Any:
        """What the page's script is answered.

        Raises:
            PageError: an error.
        """
        sent = {"Origin": self.roost.url, **(headers or {})}
        async with self.session.post(self.roost.url + path, json=body, headers=sent) as response:
            text = await response.text()
            self.told.append(f"{text} {dict(response.headers)}")
            assert "Access-Control-Allow-Origin" not in response.headers
            assert "Set-Cookie" not in response.headers
            if response.status != 200:
                raise PageError(json.loads(text))
            return json.loads(text)


def fragment(location: str, page: str = HOME) -> dict[str, str]:
    """What stands behind the '#' of the app's page."""
    address, _, behind = location.partition("#")
    assert address == page
    return dict(parse_qsl(behind))


def with_query(address: str, **changes: str | None) -> str:
    """An address with other fields in its query; None takes one away."""
    path, _, query = address.partition("?")
    fields: dict[str, str | None] = {**dict(parse_qsl(query)), **changes}
    return f"{path}?{urlencode({name: value for name, value in fields.items() if value is not None}, quote_via=quote)}"


async def who(roost: Roost, token: str, app_id: str = "acme") -> Any:
    """The user whom an access token logs in."""
    async with rest(roost, app_id) as http:
        answer = await http.call("create", "authentication", {"strategy": "jwt", "accessToken": token})
        return answer["user"]


async def count(roost: Roost, collection: str, app_id: str = "acme") -> int:
    """How many records an app has."""
    database = database_of(roost, app_id)
    found: int = await database[collection].count_documents({"app_id": app_id})
    return found


async def refused(browser: Browser, callback: str) -> str:
    """The error with which the app's page is opened."""
    behind = fragment(await browser.come_back(callback))
    assert "access_token" not in behind
    return behind["error"]
