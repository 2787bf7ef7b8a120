"""What the tests of the control plane do over and over: making apps, waiting for operations, looking into collections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from hooks.context import Authentication, Params
from server.main import Roost
from services import declaration
from services.control.lifecycle import AT_THE_SERVER, Actor
from services.control.operations import Operation
from services.control.sagas import DELETE, Step, Work
from services.declaration import TenantDeclaration
from services.users import grant
from tests.support.client import PASSWORD, Caller, CallError, connect, fresh, outcome, rest
from tests.support.roost import ADMIN, CONTROL_PLANE


def declared(id: str, **more: Any) -> TenantDeclaration:
    """An app as a declarative file would have it."""
    (one,) = declaration.check({"tenants": [{"id": id, **more}]}).tenants
    return one


async def make(roost: Roost, id: str, actor: Actor = AT_THE_SERVER, **more: Any) -> Operation:
    """Makes an app; the operation, which is over."""
    return await roost.backend.control.lifecycle.create(declared(id, **more), actor)


async def delete(roost: Roost, id: str) -> Operation:
    """Deletes an app; the operation, which is over."""
    control = roost.backend.control
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


@asynccontextmanager
async def caller_of(roost: Roost, transport: str, app: str = CONTROL_PLANE) -> AsyncIterator[Any]:
    """A client of either transport: `socketio` or `rest`."""
    opened = connect(roost, app) if transport == "socketio" else rest(roost, app)
    async with opened as client:
        yield client


async def manager(roost: Roost, client: Any, *permissions: str) -> str:
    """Makes a user of the control plane with these permissions and logs the client in as him; his id."""
    name = fresh("manager")
    user = await client.call("create", "users", {"username": name, "password": PASSWORD})
    plane = await roost.backend.tenants.get(CONTROL_PLANE)
    assert plane is not None
    for permission in permissions:
        await grant(roost.backend.isolation, plane, name, permission)
    await client.login(name)
    return str(user["_id"])


async def call_as(
    roost: Roost, method: str, path: str, claims: Mapping[str, Any], permissions: Sequence[str], **arguments: Any
) -> Any:
    """A call from outside with a token of these claims, behind the door where tokens are verified; its result."""
    tenant = await roost.catalogue.get(claims["tid"])
    assert tenant is not None
    params = Params(
        tenant=tenant,
        provider="rest",
        query=arguments.pop("query", {}),
        authentication=Authentication("jwt", "a.b.c", claims),
        user={"_id": f"cp:{claims['sub']}", "permissions": [*permissions]},
        authenticated=True,
    )
    return (await roost.app.call(path, method, params, **arguments)).result


async def code(caller: Any, method: str, path: str, *arguments: Any) -> int:
    """The code of the error that answers a call."""
    error = await outcome(caller, method, path, *arguments)
    assert isinstance(error, CallError), error
    return error.code


async def join(roost: Roost, user_id: str, *apps: str) -> None:
    """Makes a user of the control plane a member of the apps' organizations there."""
    for app in apps:
        tenant = await roost.backend.tenants.get(app)
        assert tenant is not None
        await roost.backend.control.provisioning.ensure_creator(tenant, user_id)


def stand_in(roost: Roost, kind: str, name: str, ensure: Callable[[Work], Awaitable[None]]) -> None:
    """Has a step do something else, whoever has handed it in."""
    roost.backend.control.sagas._steps[kind][name] = Step(name, ensure)


def hold_deletions(roost: Roost) -> None:
    """Has every deletion stay at its first step."""

    async def wait(work: Work) -> None:
        await asyncio.Event().wait()

    stand_in(roost, DELETE, "sockets", wait)
