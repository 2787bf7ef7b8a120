"""Apps with every way of logging in, and what people do there over either transport."""

from __future__ import annotations

from typing import Any

from hooks.tenant import Tenant
from server.main import Roost
from tests.support.client import PASSWORD, Caller, CallError, Client, Rest, fresh, outcome

OPEN = """
tenants:
  - id: acme
    auth: {strategies: [local, jwt, refresh, anonymous, api_key]}
    services:
      notes: {multi: true, rules: {default: authenticated}}
      board: {rules: {default: public}}
  - id: globex
    services:
      notes: {rules: {default: authenticated}}
"""

ENDED = {"name": "SessionEndedError"}


async def sign_up(caller: Caller, name: str | None = None) -> tuple[str, Any]:
    """A new user, who is not logged in yet; the name and the user."""
    name = name or fresh("user")
    return name, await caller.call("create", "users", {"username": name, "password": PASSWORD})


async def log_in(caller: Caller, name: str, password: str = PASSWORD, **more: Any) -> Any:
    """The answer to a login by password."""
    data = {"strategy": "local", "username": name, "password": password, **more}
    return await caller.call("create", "authentication", data)


async def refresh(caller: Caller, token: object) -> Any:
    """The answer to a login by refresh token."""
    return await caller.call("create", "authentication", {"strategy": "refresh", "refreshToken": token})


def by_refresh(answer: Any) -> dict[str, Any]:
    """What logs in by the refresh token of an earlier login."""
    return {"strategy": "refresh", "refreshToken": answer["refreshToken"]}


async def is_in(client: Client) -> bool:
    """Whether the socket is logged in."""
    found = await outcome(client, "find", "users", {"$limit": 0})
    assert not isinstance(found, CallError) or found.code == 401
    return not isinstance(found, CallError)


async def is_out(client: Client) -> bool:
    """Whether the socket is logged in no more."""
    return not await is_in(client)


async def refused(caller: Caller, method: str, path: str, *arguments: Any) -> CallError:
    """The error that answers a call."""
    error = await outcome(caller, method, path, *arguments)
    assert isinstance(error, CallError), error
    return error


def tenant_of(roost: Roost, id: str) -> Tenant:
    """The tenant's present snapshot."""
    tenant = roost.catalogue.peek(id)
    assert tenant is not None
    return tenant


def bearer(answer: Any) -> dict[str, str]:
    """The headers of a request with the access token of a login."""
    return {"Authorization": f"Bearer {answer['accessToken']}"}


async def status(http: Rest, answer: Any) -> int:
    """What a request with the access token of a login is answered."""
    return (await http.request("GET", "/users", headers=bearer(answer))).status
