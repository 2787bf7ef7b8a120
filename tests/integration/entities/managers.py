"""People of the control plane who are members of the organizations of apps there, and go on in them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from server.main import Roost
from services.entities.registry import ORGANIZATIONS
from tests.integration.entities.people import (
    HUB,
    NORTH,
    administrator,
    make_person,
    make_role,
    person,
    tenant_of,
)
from tests.support.client import Client, Rest

STALE = {"name": "StaleTokenError", "reason": "token_stale"}
NO_MEMBER = {"reason": "not_a_member", "code": "not_a_member"}


async def linked(served: Roost, tenant_id: str) -> str:
    """The control plane's organization for a tenant, as the lifecycle makes it; its id."""
    entities, hub = served.people.entities, tenant_of(served, HUB)
    found = await entities.first(hub, ORGANIZATIONS, {"tenant_id": tenant_id})
    if found is None:
        found = await entities.add(hub, ORGANIZATIONS, {"name": tenant_id, "tenant_id": tenant_id})
    return str(found["_id"])


@dataclass
class Manager:
    """Somebody of the control plane who is a member of the north's organization there."""

    name: str
    user_id: str
    org_id: str
    role_id: str
    member_id: str


async def make_manager(served: Roost, *permissions: str, tenant_id: str = NORTH) -> Manager:
    """A new one, with a role of his own."""
    name, user_id = await make_person(served, HUB)
    org_id = await linked(served, tenant_id)
    async with administrator(served, HUB) as ada:
        role_id = await make_role(ada, *permissions)
        member = await ada.call("create", "members", {"org_id": org_id, "user_id": user_id, "roles": [role_id]})
    return Manager(name, user_id, org_id, role_id, member["_id"])


@asynccontextmanager
async def at_home(served: Roost, transport: str, manager: Manager) -> AsyncIterator[Client | Rest]:
    """The manager, logged in to the control plane."""
    async with person(served, HUB, transport, manager.name) as caller:
        yield caller


async def switch(caller: Client | Rest, organization: str | None, **more: Any) -> Any:
    """Goes on in an organization; over HTTP the app is then that of the token."""
    data = {"strategy": "organization", "organization": organization, **more}
    answer = await caller.call("create", "authentication", data)
    if isinstance(caller, Rest):
        caller.headers["Authorization"] = f"Bearer {answer['accessToken']}"
        caller.headers.pop("x-app-id", None)
    return answer
