"""A provider, a server whose apps know it, and a browser."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from server.main import Roost
from tests.conftest import StartRoost
from tests.integration.oauth.browser import Browser, declared, keep_secret
from tests.support.oidc_provider import OpenIdProvider, openid_provider


@pytest.fixture
async def provider() -> AsyncIterator[OpenIdProvider]:
    """An OpenID provider on this machine."""
    async with openid_provider() as found:
        yield found


@pytest.fixture
async def knowing(roosts: StartRoost, provider: OpenIdProvider) -> Roost:
    """A server whose apps `acme` and `globex` sign in by the provider."""
    roost = await roosts(declared(provider), outbound_private=True)
    await keep_secret(roost)
    return roost


@pytest.fixture
async def browser(knowing: Roost) -> AsyncIterator[Browser]:
    """A tab."""
    async with aiohttp.ClientSession() as session:
        yield Browser(knowing, session)
