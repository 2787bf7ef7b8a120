"""The control plane's own tenant and its first user: made at the first start, and never again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import structlog
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from hooks.errors import Conflict
from hooks.password import Hasher
from hooks.permission import PLATFORM, TENANT_ADMIN
from hooks.tenant import Tenant
from services import users
from services.authentication.keys import Keys
from services.control import public_keys
from services.control.snapshot import to_tenant
from services.control.tenants import COLLECTION, Tenants, control_database
from services.database.deployment import Deployment
from services.database.faults import DRIVER_ERRORS, from_driver
from services.isolation import Isolation

log = structlog.get_logger()

NAME = "Control plane"
ADMIN_PERMISSIONS = (*sorted(PLATFORM), TENANT_ADMIN)
"""What the first user may do: everything."""
_FOUNDED = "admin_made_at"
"""When the first user was made: whoever removes him later does not get another one by a restart."""


class AnotherControlPlane(Exception):
    """This database has a control plane of another id."""


class Founding:
    """Makes the control plane of a deployment. All of it may run again, and at several servers at once (CP-1)."""

    def __init__(self, deployment: Deployment, keys: Keys, tenants: Tenants, *, database: str, id: str) -> None:
        """`database` names the database of shared tenant data; `id` is the control plane's."""
        self._deployment = deployment
        self._keys = keys
        self._tenants = tenants
        self._database = database
        self._control = control_database(database)
        self._id = id

    async def ensure_tenant(self) -> Tenant:
        """The control plane's tenant, made if there is none.

        Raises:
            AnotherControlPlane: there is one with another id. Conflict: an ordinary app has this id.
        """
        try:
            found = await self._find_or_insert()
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        if not found.get("control_plane"):
            raise Conflict(f"The id '{self._id}' is that of an ordinary app: name another one for the control plane")
        await self._tenants.prepare_own_collections()
        await self._keys.ensure(self._id)
        return to_tenant(found)

    async def ensure_admin(self, tenant: Tenant, username: str, password: str, hasher: Hasher) -> bool:
        """Makes the first user, with all permissions, unless there has been one; whether he is new.

        Raises:
            BadRequest: the name or the password cannot be one.
        """
        if await self._is_founded():
            return False
        hashed = await hasher.hash(password)
        isolation = Isolation(self._deployment)

        async def make() -> bool:
            claimed = await self._deployment.collection(self._tenants.namespace).find_one_and_update(
                {"_id": self._id, _FOUNDED: {"$exists": False}}, {"$set": {_FOUNDED: datetime.now(UTC)}}
            )
            if claimed is not None:
                await users.enter(isolation, tenant, username, hashed, ADMIN_PERMISSIONS)
            return claimed is not None

        try:
            return await self._deployment.transaction(make)
        except Conflict:
            log.warning("the first user's name is taken: nobody was made", tenant=self._id)
            return False

    async def _find_or_insert(self) -> dict[str, Any]:
        found: dict[str, Any] | None = await self._documents.find_one({"_id": self._id}, max_time_ms=2000)
        if found is not None:
            return found
        now = datetime.now(UTC)
        fresh = {
            "name": NAME,
            "control_plane": True,
            "status": "ready",
            "epoch": 1,
            "public_keys": [public_keys.fresh()],
            "placement": {"model": "shared", "cluster": "default", "database": self._database},
            "created_at": now,
            "updated_at": now,
        }
        try:
            made: dict[str, Any] = await self._documents.find_one_and_update(
                {"_id": self._id}, {"$setOnInsert": fresh}, upsert=True, return_document=ReturnDocument.AFTER
            )
        except DuplicateKeyError as error:
            other = await self._documents.find_one({"control_plane": True}, {"_id": 1})
            if other is not None and other["_id"] != self._id:
                raise AnotherControlPlane(other["_id"]) from error
            raced: dict[str, Any] = await self._documents.find_one({"_id": self._id})
            return raced
        return made

    async def _is_founded(self) -> bool:
        try:
            found = await self._documents.find_one({"_id": self._id}, {_FOUNDED: 1}, max_time_ms=2000)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        return found is not None and _FOUNDED in found

    @property
    def _documents(self) -> Any:
        return self._deployment.client[self._control][COLLECTION]
