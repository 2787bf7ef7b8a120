"""Signing in by another provider, in a real browser with the official client (FEATHERS 7.3)."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.acceptance.javascript import run
from tests.acceptance.machine import do_without
from tests.conftest import StartRoost
from tests.support.client import rest
from tests.support.oidc_provider import CLIENT, openid_provider

MODULES = Path(__file__).parents[2] / "client-example" / "node_modules"
PAGE = """<!doctype html><title>An app</title><link rel="icon" href="data:,">
<a href="{start}">Sign in</a> <p id="result"></p>
<script src="/modules/socket.io-client/dist/socket.io.js"></script>
<script src="/modules/@feathersjs/client/dist/feathers.js"></script>
<script>
const client = feathers()
  .configure(feathers.socketio(io('{roost}', {{ query: {{ appId: 'acme' }} }})))
  .configure(feathers.authentication({{ storage: window.localStorage }}))
const show = (text) => {{ document.querySelector('#result').textContent = text }}
client.reAuthenticate().then(({{ user }}) => show(user._id), (error) => show(error.message))
</script>
"""


class Home:
    """The app's page, at a free port of this machine."""

    def __init__(self) -> None:
        self.url = ""
        self.page = ""

    async def show(self, request: web.Request) -> web.Response:
        return web.Response(text=self.page, content_type="text/html")


@pytest.fixture
async def home() -> AsyncIterator[Home]:
    """A page that loads the official client."""
    if not MODULES.is_dir():
        do_without("the example's packages are not installed: run `npm ci` in client-example")
    found, app = Home(), web.Application()
    app.router.add_get("/home", found.show)
    app.router.add_static("/modules", MODULES)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://localhost:{runner.addresses[0][1]}"
    yield found
    await runner.cleanup()


async def test_the_official_client_is_logged_in_when_the_page_comes_back(roosts: StartRoost, home: Home) -> None:
    executable = shutil.which("chromium") or do_without("chromium is not installed")
    async with openid_provider() as provider:
        provider.secret = None
        roost = await roosts(
            f"tenants: [{{id: acme, allowed_origins: ['{home.url}'], auth: {{oauth: {{known: {{issuer: '{provider.url}', "
            f"client_id: '{CLIENT}', redirects: ['{home.url}/home']}}}}}}}}]",
            outbound_private=True,
        )
        start = f"{roost.url}/oauth/known?appId=acme"
        home.page = PAGE.format(start=start, roost=roost.url)
        async with rest(roost, "acme") as http:
            user = await http.sign_up("bob")
            token = http.headers["Authorization"].removeprefix("Bearer ")
            found = await run("oauth", home=f"{home.url}/home", start=start, token=token, executable=executable)

    assert found["before"] == "No accessToken found in storage"
    assert found["linked"] == user["_id"], "the provider's Ada is linked to Bob's account, by his token"
    assert found["after"] == user["_id"], "and signs in as him"
    assert found["hash"] in {"", "#"}, "the official client has taken the token away"
    assert found["reloaded"] == found["after"], "and kept it"
    assert found["cookies"] == 0
    assert found["complaints"] == []
    assert "begun in another browser" in found["victim"]
    assert found["victimAfter"] == "No accessToken found in storage", "nobody was logged in as somebody else"
    assert found["lost"] == "The redirect is none that the app has declared"
