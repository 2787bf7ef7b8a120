"""TENANCY RF-6 to RF-8, RF-11, RF-13: people of an app sign in by the control plane's registration, or their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from hooks.permission import TENANT_LEVEL
from server.main import Roost
from services.entities.records import Entities
from services.entities.registry import CONNECTIONS
from services.protection import SyncCapability
from tests.integration.oauth.browser import Browser, PageError, fragment, who
from tests.integration.settings.people import new_app, operator, person, refusal, tenant_of
from tests.integration.sync.people import quiet
from tests.support.client import Client, Rest, fresh, until
from tests.support.oidc_provider import CLIENT, SECRET, OpenIdProvider, openid_provider
from tests.support.placed import database_of
from tests.support.roost import CONTROL_PLANE, start_roost
from tests.support.tripwire import Tripwire

pytestmark = pytest.mark.asyncio(loop_scope="module")
HOME = "https://own.example/welcome"
SHARED = "https://shared.example/welcome"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(mongod: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Roost]:
    """A server that may reach this very machine."""
    tripwire = Tripwire()
    roost = await start_roost(mongod, tripwire=tripwire, data=tmp_path_factory.mktemp("roost"), outbound_private=True)
    yield roost
    await roost.drop()
    assert tripwire.violations == []


@pytest_asyncio.fixture(loop_scope="module")
async def provider() -> AsyncIterator[OpenIdProvider]:
    async with openid_provider() as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def browser(house: Roost) -> AsyncIterator[Browser]:
    async with aiohttp.ClientSession() as session:
        yield Browser(house, session)


@pytest_asyncio.fixture(loop_scope="module")
async def hub(house: Roost) -> AsyncIterator[Client | Rest]:
    """The control plane's administrator; what he has made is gone afterwards."""
    async with operator(house) as admin:
        yield admin
        for service in ("connections", "clients", "resource-servers"):
            for record in (await admin.call("find", service))["data"]:
                await admin.call("remove", service, record["_id"])


@asynccontextmanager
async def administrator(house: Roost, app: str) -> AsyncIterator[Client | Rest]:
    """Somebody who may do all in an app."""
    async with person(house, app, *sorted(TENANT_LEVEL)) as ada:
        yield ada


def registration(provider: OpenIdProvider, **more: Any) -> dict[str, Any]:
    """A connection with all that is needed."""
    options = {"issuer": provider.url, "client_id": CLIENT, "scopes": ["openid", "email"]}
    made = {"name": fresh("hub"), "strategy": "oidc", "options": options, "secrets": {"client_secret": SECRET}}
    return {**made, "shareable": True, **more}


async def app_with(house: Roost, **connection: Any) -> str:
    """An app with a client and a connection `company`."""
    app = await new_app(house)
    async with administrator(house, app) as ada:
        await ada.call("create", "clients", {"name": "page", "callbacks": [HOME]})
        await ada.call("create", "connections", {"name": "company", "strategy": "oidc", **connection})
    return app


async def trouble(browser: Browser, app: str) -> int:
    """With which status a sign-in is refused."""
    with pytest.raises(PageError) as error:
        await browser.begin(app, "company")
    assert SECRET not in str(error.value)
    return error.value.code


async def test_an_app_signs_in_by_what_the_control_plane_shares(
    house: Roost, provider: OpenIdProvider, browser: Browser, hub: Client
) -> None:
    """RF-6, RF-7, RF-8, RF-9: the only counterpart by the strategy, with all of its registration; users are the app's."""
    await hub.call("create", "connections", registration(provider))
    app = await app_with(house, options={"profile": {"nick": "nickname"}})
    behind = fragment(await browser.sign_in(app, "company"), HOME)
    assert (await who(house, behind["access_token"], app))["_id"]
    assert provider.forms, "the provider has taken the client's secret"
    database = database_of(house, app)
    assert await database["users"].count_documents({"app_id": app}) == 2
    async with administrator(house, app) as ada:
        (shown,) = (await ada.call("find", "connections", {"name": "company"}))["data"]
        assert shown.get("secrets", {}) == {}
        one = await ada.call("get", "connections", shown["_id"])
        assert one == {**shown, "secrets": {"client_secret": {"set": True, "source": "control_plane"}}}
        assert "issuer" not in str(one)
    assert SECRET not in "".join(browser.told)


@pytest.mark.parametrize(
    "own",
    [
        {"options": {"client_id": CLIENT}},
        {"options": {"issuer": "https://elsewhere.example"}},
        {"options": {"client_auth": "post"}},
        {"secrets": {"client_secret": "own-secret"}},
    ],
)
async def test_one_part_of_its_own_leaves_nothing_of_anothers(
    house: Roost, provider: OpenIdProvider, browser: Browser, hub: Client, own: dict[str, Any]
) -> None:
    """RF-6: the bundle is indivisible."""
    await hub.call("create", "connections", registration(provider))
    app = await app_with(house, **own)
    assert await trouble(browser, app) == 503
    assert provider.forms == []


async def test_an_apps_own_registration_is_its_own(
    house: Roost, provider: OpenIdProvider, browser: Browser, hub: Client
) -> None:
    """RF-6: with all parts of its own, the control plane's is not looked at."""
    wrong = registration(provider, secrets={"client_secret": "wrong"})
    await hub.call("create", "connections", wrong)
    app = await app_with(house, options=registration(provider)["options"], secrets={"client_secret": SECRET})
    assert "access_token" in fragment(await browser.sign_in(app, "company"), HOME)
    async with administrator(house, app) as ada:
        (shown,) = (await ada.call("find", "connections", {"name": "company"}))["data"]
        assert shown["secrets"] == {"client_secret": {"set": True, "source": "own", "hint": SECRET[-4:]}}


async def test_what_is_not_shared_or_no_longer_is_not_used(
    house: Roost, provider: OpenIdProvider, browser: Browser, hub: Client
) -> None:
    """RF-8: `shareable`, the list of apps, and withdrawal, which counts at once also for a sign-in that has begun."""
    made = await hub.call("create", "connections", registration(provider, shareable=False))
    app, other = await app_with(house), await app_with(house)
    assert await trouble(browser, app) == 404
    await hub.call("patch", "connections", made["_id"], {"shareable": True, "share_with": [other]})
    assert await trouble(browser, app) == 404
    assert "access_token" in fragment(await browser.sign_in(other, "company"), HOME)
    address = await browser.visit(await browser.begin(other, "company"))
    await hub.call("patch", "connections", made["_id"], {"share_with": [app]})
    with pytest.raises(PageError):
        await browser.come_back(address)
    assert await trouble(browser, other) == 404
    assert "access_token" in fragment(await browser.sign_in(app, "company"), HOME)
    await hub.call("patch", "connections", made["_id"], {"enabled": False})
    assert await trouble(browser, app) == 404


async def test_the_counterpart_is_the_source_or_the_only_one(
    house: Roost, provider: OpenIdProvider, browser: Browser, hub: Client
) -> None:
    """RF-7: two by one strategy are a mistake in the configuration, unless the source is named."""
    first = await hub.call("create", "connections", registration(provider))
    await hub.call("create", "connections", registration(provider, secrets={"client_secret": "wrong"}))
    app = await app_with(house)
    assert await trouble(browser, app) == 503
    async with administrator(house, app) as ada:
        chosen = {"source_id": first["_id"]}
        copies = Entities(house.backend.isolation).of(await tenant_of(house, app), CONNECTIONS)

        async def is_copied() -> bool:
            return await copies.count(chosen) == 1

        await until(is_copied)
        name = first["name"]
        assert "access_token" in fragment(await browser.sign_in(app, name), HOME)
        (found,) = (await ada.call("find", "connections", {"name": name}))["data"]
        assert "client_id" not in str(found)
        await ada.call("create", "connection-overrides", {"connection_id": found["_id"], "enabled": False})
        with pytest.raises(PageError):
            await browser.begin(app, name)
    await hub.call("remove", "connections", first["_id"])
    with pytest.raises(PageError):
        await browser.begin(app, name)


async def test_scopes_are_added_where_the_owner_allows_it(
    house: Roost, provider: OpenIdProvider, browser: Browser, hub: Client
) -> None:
    """RF-6: options that are no credentials are merged by an allow-list; `extra_scopes` is its owner's word."""
    options = registration(provider)["options"]
    made = await hub.call("create", "connections", registration(provider))
    app = await app_with(house, options={"extra_scopes": True})
    async with administrator(house, app) as ada:
        (own,) = (await ada.call("find", "connections", {"name": "company"}))["data"]
        await ada.call("create", "connection-overrides", {"connection_id": own["_id"], "scopes": ["calendar"]})
    assert "calendar" not in await browser.begin(app, "company")
    await hub.call("patch", "connections", made["_id"], {"options": {**options, "extra_scopes": True}})
    assert "calendar" in await browser.begin(app, "company")


async def test_shared_addresses_count_in_flows_alone(
    house: Roost, provider: OpenIdProvider, browser: Browser, hub: Client
) -> None:
    """RF-11: the union of the app's addresses and those that the control plane shares, https alone, never told or kept."""
    local, private = "http://localhost:5173/welcome", "https://private.example/welcome"
    page = {"name": fresh("page"), "callbacks": [SHARED, HOME, private, local], "shared": [SHARED, HOME, local]}
    await hub.call("create", "clients", page)
    await hub.call("create", "connections", registration(provider))
    app = await app_with(house)
    assert "access_token" in fragment(await browser.sign_in(app, "company", redirect=SHARED), SHARED)
    for redirect in (private, local, "https://evil.example"):
        with pytest.raises(PageError, match="redirect"):
            await browser.begin(app, "company", redirect=redirect)
    found = await house.backend.inheritance.urls.of(await tenant_of(house, app), "callbacks")
    assert found == (HOME, SHARED)
    async with administrator(house, app) as ada:
        assert SHARED not in str(await ada.call("find", "clients"))
    other = await new_app(house)
    async with administrator(house, other) as bob:
        await bob.call("create", "clients", {"name": "page", "callbacks": [private], "shared": [private]})
    assert private not in await house.backend.inheritance.urls.of(await tenant_of(house, app), "callbacks")
    assert private not in await house.backend.inheritance.urls.of(await tenant_of(house, CONTROL_PLANE), "web_origins")


async def test_scopes_of_a_copy_are_the_copys(house: Roost, hub: Client) -> None:
    """RF-13: nothing is merged when a resource server is read: the sync carries its scopes."""
    original = await hub.call(
        "create", "resource-servers", {"identifier": "urn:shop", "scopes": [{"value": "read:a"}, {"value": "read:b"}]}
    )
    app = await new_app(house)
    copies = house.backend.isolation.copies(await tenant_of(house, app), "resource_servers", SyncCapability())
    chosen = {"source_id": original["_id"]}

    async def is_copied() -> bool:
        return await copies.count(chosen) == 1

    await until(is_copied)
    await quiet(house)
    # As it is until the sync has come, or while it is held up.
    await copies.update_many(chosen, {"$set": {"scopes": [{"value": "read:a"}]}})
    async with administrator(house, app) as ada:
        (found,) = (await ada.call("find", "resource-servers", {"identifier": "urn:shop"}))["data"]
        assert found["scopes"] == [{"value": "read:a"}]


async def test_a_secret_that_stays_goes_to_no_other_server(house: Roost, provider: OpenIdProvider) -> None:
    """RF-9, RF-10: who changes an address of a registration has to know its secret."""
    app = await app_with(house, options=registration(provider)["options"], secrets={"client_secret": SECRET})
    async with administrator(house, app) as ada:
        (own,) = (await ada.call("find", "connections", {"name": "company"}))["data"]
        elsewhere = {**own["options"], "issuer": "https://evil.example"}
        assert (await refusal(ada, "patch", "connections", own["_id"], {"options": elsewhere})).code == 400
        replaced = {"name": "company", "strategy": "oidc", "options": elsewhere}
        assert (await refusal(ada, "update", "connections", own["_id"], replaced)).code == 400
        kept = await ada.call("patch", "connections", own["_id"], {"options": {**own["options"], "prompt": "login"}})
        assert kept["secrets"] == own["secrets"]
        known = {"options": elsewhere, "secrets": {"client_secret": "another-secret"}}
        assert (await ada.call("patch", "connections", own["_id"], known))["options"] == elsewhere
