"""What the tests of the control plane do over and over: making apps, waiting for operations, looking into collections."""

from __future__ import annotations

from typing import Any

from server.main import Roost
from services import declaration
from services.control.lifecycle import AT_THE_SERVER, Actor
from services.control.operations import Operation
from services.declaration import TenantDeclaration
from tests.support.client import Caller
from tests.support.roost import ADMIN


def declared(id: str, **more: Any) -> TenantDeclaration:
    """An app as a declarative file would have it."""
    (one,) = declaration.check({"tenants": [{"id": id, **more}]}).tenants
    return one


async def make(roost: Roost, id: str, actor: Actor = AT_THE_SERVER, **more: Any) -> Operation:
    """Makes an app; the operation, which is over."""
    return await roost.backend.control.lifecycle.create(declared(id, **more), actor)


async def delete(roost: Roost, id: str) -> Operation:
    """Deletes an app; the operation, which is over. One process needs no grace for others."""
    control = roost.backend.control
    control.grace.seconds = 0.0
    return await control.lifecycle.settle((await control.lifecycle.delete(id)).id)


def control_collection(roost: Roost, name: str) -> Any:
    """A collection of the control plane's database."""
    return roost.backend.deployment.client[f"{roost.settings.database}_control"][name]


async def state(roost: Roost, id: str) -> str | None:
    """What the catalogue says of an app."""
    tenant = await roost.backend.tenants.get(id)
    return None if tenant is None else tenant.status


async def log_in_as_admin(caller: Caller) -> Any:
    """The answer to the login of the control plane's first user."""
    name, password = ADMIN
    return await caller.call("create", "authentication", {"strategy": "local", "username": name, "password": password})
