"""The self-test at each start: what the guards must refuse is tried on a record that nobody ever sees (CO-3).

All of it happens in one transaction, which is given up at the end: nothing is kept, and nobody hears of it.
"""

from __future__ import annotations

import contextlib

from bson import ObjectId

from hooks.errors import BadRequest, Forbidden
from hooks.tenant import Tenant
from services.database.deployment import Deployment
from services.isolation import Isolation
from services.store import Namespace

COLLECTION = "roles"
"""A collection with copies that the sync alone may write."""


class _Done(Exception):
    """Ends the transaction, so that nothing of it is kept."""


async def try_guards(deployment: Deployment, isolation: Isolation, tenant: Tenant) -> list[str]:
    """What went through although it must not, in words; nothing is as it should be.

    Raises:
        FeathersError: the database does not do what the test needs.
    """
    faults: list[str] = []

    async def attempt() -> None:
        faults.clear()
        await _attempt(deployment, isolation, tenant, faults)
        raise _Done

    with contextlib.suppress(_Done):
        await deployment.transaction(attempt)
    return faults


async def _attempt(deployment: Deployment, isolation: Isolation, tenant: Tenant, faults: list[str]) -> None:
    raw = deployment.collection(Namespace(tenant.placement.database, COLLECTION))
    id = ObjectId()
    bound = {"a": tenant.id, "i": id}
    copy = {"_id": bound, "app_id": tenant.id, "name": f"self-test {id}", "is_system": True, "source_id": str(id)}
    await raw.insert([copy])
    own = isolation.collection(tenant, COLLECTION)
    try:
        await own.find_one_and_update({"_id": id}, {"$set": {"name": "changed"}})
        faults.append("a copy of the control plane's could be changed")
    except Forbidden:
        pass
    other = isolation.collection(Tenant("self-test", "", placement=tenant.placement), COLLECTION)
    if await other.find({"_id": id}) or await other.find({"name": copy["name"]}):
        faults.append("a record could be read by another app")
    try:
        await other.find({"app_id": tenant.id})
        faults.append("a query could name another app")
    except BadRequest:
        pass
