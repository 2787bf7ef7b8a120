"""A client of one app, as the services see it, and a look into the database behind their back."""

from __future__ import annotations

from typing import Any

from hooks.context import Params, Record
from hooks.tenant import Tenant
from server.main import Roost
from tests.support.placed import database_of

PASSWORD = "correct horse"


class Client:
    """Calls as one of the tenant's clients does over REST: with a query, perhaps a token, and nothing else."""

    def __init__(self, roost: Roost, tenant: str) -> None:
        self.roost = roost
        self.tenant = tenant
        self.token: str | None = None
        self.id = ""

    async def call(self, path: str, method: str, id: Any = None, data: Any = None, query: Record | None = None) -> Any:
        tenant = await tenant_of(self.roost, self.tenant)
        params = Params(tenant=tenant, provider="rest", query=query or {}, token=self.token)
        return (await self.roost.app.call(path, method, params, id=id, data=data)).outcome

    async def sign_up(self, name: str, **profile: Any) -> Record:
        tenant = await tenant_of(self.roost, self.tenant)
        data = {tenant.auth.username_field: name, "password": PASSWORD, **profile}
        created: Record = await self.call("users", "create", data=data)
        return created

    async def log_in(self, name: str, password: str = PASSWORD) -> Record:
        tenant = await tenant_of(self.roost, self.tenant)
        data = {"strategy": "local", tenant.auth.username_field: name, "password": password}
        result: Record = await self.call("authentication", "create", data=data)
        self.token, self.id = result["accessToken"], str(result["user"]["_id"])
        return result


async def tenant_of(roost: Roost, id: str) -> Tenant:
    """The tenant's present snapshot."""
    tenant = await roost.catalogue.get(id)
    assert tenant is not None
    return tenant


async def stored(roost: Roost, tenant: str, name_key: str) -> Record:
    """The user as the database has it."""
    database = database_of(roost, tenant)
    found: Record | None = await database["users"].find_one({"app_id": tenant, "username_key": name_key})
    assert found is not None
    return found
