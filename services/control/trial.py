"""A trial of an app's services, as the end of an adoption: called as clients would, to see what reaches the database (CO-6)."""

from __future__ import annotations

import contextlib
from typing import Any

from bson import ObjectId

from hooks.context import Params
from hooks.errors import FeathersError
from hooks.tenant import Tenant, tenant_scope
from services.application import Application


async def try_services(app: Application, tenant: Tenant) -> list[str]:
    """Calls the services that the tenant has declared, all methods that find and some that would write; their paths.

    Nothing is changed: what would be written is a record that there is not.

    Raises:
        FeathersError: a service cannot find or get.
    """
    tried = [*app.declared(tenant)]
    with tenant_scope(tenant):
        for path in tried:
            found = await _call(app, tenant, path, "find", query={"$limit": 1})
            await _call(app, tenant, path, "find", query={"$limit": 0})
            for record in found["data"] if isinstance(found, dict) else found:
                own = getattr(app.lookup(tenant, path)[0].service, "id", "_id")
                await _call(app, tenant, path, "get", id=record[own])
            for method, data in (("patch", {}), ("update", {}), ("remove", None)):
                # It is not there; a schema may say before that it could not be.
                with contextlib.suppress(FeathersError):
                    await _call(app, tenant, path, method, id=str(ObjectId()), data=data)
    return tried


async def _call(
    app: Application, tenant: Tenant, path: str, method: str, *, query: dict[str, Any] | None = None, **arguments: Any
) -> Any:
    return (await app.call(path, method, Params(tenant=tenant, query=query or {}), **arguments)).result
