"""People with known ids and fields, which only the server itself can give them, and their sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from hooks.context import Params, Record
from hooks.tenant import Tenant
from server.main import Roost
from tests.support.client import PASSWORD, Client, connect
from tests.support.placed import raw


async def tenant_of(roost: Roost, id: str) -> Tenant:
    """The tenant's present snapshot."""
    tenant = await roost.catalogue.get(id)
    assert tenant is not None
    return tenant


async def make_user(roost: Roost, app_id: str, name: str, **fields: Any) -> Record:
    """A user as the server itself makes one: with any id, permissions and other fields."""
    data = {"username": name, "password": PASSWORD, **fields}
    made = await roost.app.call("users", "create", Params(tenant=await tenant_of(roost, app_id)), data=data)
    user: Record = made.result
    return user


async def keep(roost: Roost, app_id: str, service: str, *records: Record) -> list[Record]:
    """Records as the server itself creates them."""
    params = Params(tenant=await tenant_of(roost, app_id))
    return [(await roost.app.call(service, "create", params, data={**record})).result for record in records]


async def stored(roost: Roost, app_id: str, collection: str, id: Any) -> Record | None:
    """A record as the database has it."""
    async with raw(roost, app_id) as database:
        found: Record | None = await database[collection].find_one({"_id": {"a": app_id, "i": id}})
    return found


@asynccontextmanager
async def sockets(roost: Roost, app_id: str, names: Mapping[str, str | None]) -> AsyncIterator[dict[str, Client]]:
    """A socket for each name, logged in as the user of that name; None is a stranger."""
    async with AsyncExitStack() as stack:
        clients = {}
        for who, name in names.items():
            clients[who] = await stack.enter_async_context(connect(roost, app_id))
            if name is not None:
                await clients[who].login(name)
        for client in clients.values():
            await client.take_events()
        yield clients
