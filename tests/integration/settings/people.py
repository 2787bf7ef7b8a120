"""A server with its control plane, and those who may see and change the settings of its apps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from hooks.permission import TENANT_LEVEL
from hooks.tenant import Tenant
from server.main import Roost
from services.users import grant
from tests.integration.control.managers import make
from tests.support.client import PASSWORD, Caller, CallError, Client, Rest, connect, fresh, outcome, rest
from tests.support.roost import ADMIN, CONTROL_PLANE

TRANSPORTS = ("socket", "http")
READ, UPDATE = "read:tenant_settings", "update:tenant_settings"


async def tenant_of(roost: Roost, id: str) -> Tenant:
    """The tenant as servers know it now."""
    tenant = await roost.catalogue.get(id)
    assert tenant is not None
    return tenant


async def new_app(roost: Roost, **more: Any) -> str:
    """A new app; its id."""
    id = fresh("app")
    assert (await make(roost, id, **more)).error is None
    return id


async def configure(roost: Roost, id: str, **changes: Any) -> None:
    """Changes an app's configuration as an operator does; the server knows of it when this returns."""
    changed = await roost.backend.configuration.change(id, changes)
    await roost.catalogue.refresh(changed.after)


@asynccontextmanager
async def person(roost: Roost, app: str, *permissions: str, transport: str = "http") -> AsyncIterator[Client | Rest]:
    """Somebody new in an app who has permissions."""
    name = fresh("user")
    async with connect(roost, app) if transport == "socket" else rest(roost, app) as caller:
        assert isinstance(caller, (Client, Rest))
        await caller.call("create", "users", {"username": name, "password": PASSWORD})
        for permission in permissions:
            await grant(roost.backend.isolation, await tenant_of(roost, app), name, permission)
        await caller.login(name)
        yield caller


@asynccontextmanager
async def administrator(roost: Roost, app: str, transport: str = "http") -> AsyncIterator[Client | Rest]:
    """Somebody who may see and change an app's settings."""
    async with person(roost, app, READ, UPDATE, transport=transport) as caller:
        yield caller


@asynccontextmanager
async def operator(roost: Roost, transport: str = "http") -> AsyncIterator[Client | Rest]:
    """The control plane's first user, who may do everything there."""
    name, password = ADMIN
    async with connect(roost, CONTROL_PLANE) if transport == "socket" else rest(roost, CONTROL_PLANE) as caller:
        assert isinstance(caller, (Client, Rest))
        for permission in sorted(TENANT_LEVEL):
            await grant(roost.backend.isolation, await tenant_of(roost, CONTROL_PLANE), name, permission)
        await caller.login(name, password)
        yield caller


async def refusal(caller: Caller, method: str, path: str, *arguments: Any) -> CallError:
    """The error that answers a call."""
    error = await outcome(caller, method, path, *arguments)
    assert isinstance(error, CallError), error
    return error


async def own(caller: Caller) -> Any:
    """What the app has set, as its caller sees it."""
    return await caller.call("get", "settings", "current")


async def effective(caller: Caller) -> Any:
    """What holds for the app."""
    return await caller.call("get", "settings", "current", {"$effective": True})


async def patch(caller: Caller, data: Any, **query: Any) -> Any:
    """Changes settings."""
    return await caller.call("patch", "settings", "current", data, query)
