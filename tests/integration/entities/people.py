"""A control plane and two apps, and people there who may do some things and not others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from hooks.tenant import Tenant
from server.main import Roost
from services.users import grant
from tests.support.client import PASSWORD, Caller, CallError, Client, Rest, connect, fresh, outcome, rest

HUB, NORTH, SOUTH, EAST = "control_plane", "north", "south", "east"
PAGE = "https://pages.north.example"
"""The origin of the north's pages."""
APPS = f"""
tenants:
  - id: {NORTH}
    allowed_origins: ["{PAGE}"]
    auth: {{username_field: email, email: {{url: "https://north.example/#/confirm"}}}}
    services:
      notes: {{multi: true, rules: {{default: authenticated}}}}
      diary: {{rules: {{default: {{owner_id: $user._id}}}}, stamp: {{owner_id: $user._id}}}}
      board: {{rules: {{default: public}}}}
  - id: {SOUTH}
    auth: {{username_field: email, inherit_global_permissions_in_organizations: true}}
    services:
      notes: {{multi: true, rules: {{default: authenticated}}}}
  - id: {EAST}
    auth: {{strategies: [local, jwt]}}
"""
TRANSPORTS = ("socket", "http")


def tenant_of(roost: Roost, id: str) -> Tenant:
    """The tenant's present snapshot."""
    tenant = roost.catalogue.peek(id)
    assert tenant is not None
    return tenant


def field_of(app: str) -> str:
    """What an app calls the name of its users."""
    return "username" if app == HUB else "email"


async def make_person(roost: Roost, app: str, *permissions: str, email: str | None = None) -> tuple[str, str]:
    """A new user with permissions of his own: his address and his id."""
    address = email or f"{fresh('user')}@mail.example"
    async with rest(roost, app) as http:
        user = await http.call("create", "users", {field_of(app): address, "password": PASSWORD})
    for permission in permissions:
        await grant(roost.backend.isolation, tenant_of(roost, app), address, permission)
    return address, user["_id"]


@asynccontextmanager
async def person(roost: Roost, app: str, transport: str, address: str) -> AsyncIterator[Client | Rest]:
    """Somebody who is logged in over a transport."""
    async with connect(roost, app) if transport == "socket" else rest(roost, app) as caller:
        assert isinstance(caller, (Client, Rest))
        await caller.login(address, field=field_of(app))
        yield caller


@asynccontextmanager
async def administrator(roost: Roost, app: str, transport: str = "http") -> AsyncIterator[Client | Rest]:
    """Somebody new who may do all that is done inside one app."""
    address, _ = await make_person(roost, app, "tenant:admin")
    async with person(roost, app, transport, address) as caller:
        yield caller


async def refusal(caller: Caller, method: str, path: str, *arguments: Any) -> CallError:
    """The error that answers a call."""
    error = await outcome(caller, method, path, *arguments)
    assert isinstance(error, CallError), error
    return error


async def make_role(caller: Caller, *permissions: str, server: str = "management") -> str:
    """A new role with permissions of one resource server; its id."""
    role = await caller.call("create", "roles", {"name": fresh("role")})
    for permission in permissions:
        triple = {"rs_identifier": server, "permission": permission}
        await caller.call("create", f"roles/{role['_id']}/permissions", triple)
    return str(role["_id"])
