"""Secrets that a tenant's own services elsewhere ask for, such as a provider's client secret or a mail server's password.

They are sealed by the master key, each for its tenant, name and version. A value leaves this module only for the factory of
the client that needs it (`get`): never for a result, an event, a log, an error or a metric.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog
from pymongo import IndexModel, ReturnDocument

from hooks.errors import BadRequest, NotFound, Unavailable
from services.authentication.master import BrokenSeal, MasterKey
from services.control.tenants import Tenants, control_database
from services.database.deployment import Deployment
from services.database.faults import DRIVER_ERRORS, from_driver
from services.database.schema import ensure_indexes

log = structlog.get_logger()

COLLECTION = "tenant_secrets"
KEPT = 5
"""Versions of a name that are kept, the newest ones."""
MOST_NAMES = 100
"""Names of one tenant."""
LARGEST = 16 * 1024
"""Bytes of one value."""
NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")

_PLACE = "tenant-secret"
_COUNTER = ""
"""In place of a name, in the record that counts a tenant's versions."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A value, for the factory of a client and for nothing else: it does not show when it is printed."""

    version: int
    """Another one after every change: what was built with an older one is built again."""
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SecretName:
    """What may be told of a secret."""

    name: str
    version: int
    created_at: datetime


class Secrets:
    """The secrets of all tenants. Every change raises the tenant's epoch, so that running servers use the new value."""

    def __init__(self, deployment: Deployment, master: MasterKey, tenants: Tenants, *, database: str) -> None:
        """`database` names the database of shared tenant data."""
        self._deployment = deployment
        self._master = master
        self._tenants = tenants
        self._control = control_database(database)

    async def put(self, app_id: str, name: str, value: str) -> int:
        """Keeps a value as the newest one of its name; its version.

        Versions count upward over all names of a tenant: a name that was forgotten never meets an old number again.

        Raises:
            BadRequest: the name or value cannot be kept, or there are too many names. NotFound: there is no such tenant.
        """
        _check(name, value)
        if await self._tenants.get(app_id) is None:
            raise NotFound(f"There is no tenant '{app_id}'")
        try:
            names = await self._records.distinct("_id.name", {"_id.app_id": app_id})
            if name not in names and len(set(names) - {_COUNTER}) >= MOST_NAMES:
                raise BadRequest(f"An app has at most {MOST_NAMES} secrets: remove one that is not needed")
            version = await self._count(app_id)
            sealed = self._master.seal(value.encode(), _PLACE, app_id, name, str(version))
            record = {"_id": _id(app_id, name, version), "sealed": sealed, "created_at": datetime.now(UTC)}
            await self._records.insert_one(record)
            await self._trim(app_id, name)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        # Only now: a server that looks at the tenant again has to find the new value.
        await self._tenants.touch(app_id)
        return version

    async def get(self, app_id: str, name: str, version: int | None = None) -> Secret | None:
        """The newest value of a name, or that of a version; None when there is none.

        Raises:
            Unavailable: it cannot be opened with this master key, or the database cannot be asked.
        """
        chosen: dict[str, Any] = {"_id.app_id": app_id, "_id.name": name}
        if version is not None:
            chosen["_id.version"] = version
        try:
            found = await self._records.find_one(chosen, sort=[("_id.version", -1)], max_time_ms=2000)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        if found is None or "sealed" not in found:
            return None
        kept: int = found["_id"]["version"]
        try:
            # The place is the one that was asked for, not the one that the record speaks of.
            value = self._master.open(found["sealed"], _PLACE, app_id, name, str(kept)).decode()
        except BrokenSeal as error:
            log.warning("a secret cannot be opened: was it sealed with another master key?", tenant=app_id, secret=name)
            raise Unavailable("A secret of this app cannot be opened: its operator has to set it again") from error
        return Secret(kept, value)

    async def forget(self, app_id: str, name: str | None = None) -> bool:
        """Deletes all versions of a name, or without one all that is kept of a tenant; whether there was any."""
        if name == _COUNTER:
            return False
        chosen = {"_id.app_id": app_id} if name is None else {"_id.app_id": app_id, "_id.name": name}
        try:
            outcome = await self._records.delete_many(chosen)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        if outcome.deleted_count and await self._tenants.get(app_id) is not None:
            await self._tenants.touch(app_id)
        return bool(outcome.deleted_count)

    async def names(self, app_id: str) -> Sequence[SecretName]:
        """The names of a tenant's secrets, each with its newest version and the moment of that."""
        chosen = {"_id.app_id": app_id, "_id.name": {"$ne": _COUNTER}}
        order = [("_id.name", 1), ("_id.version", 1)]
        found: dict[str, SecretName] = {}
        try:
            async for record in self._records.find(chosen, {"created_at": 1}, sort=order, max_time_ms=2000):
                key = record["_id"]
                found[key["name"]] = SecretName(key["name"], key["version"], record["created_at"])
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        return [*found.values()]

    async def prepare(self) -> None:
        """Creates the index by which secrets are found."""
        keys = [("_id.app_id", 1), ("_id.name", 1), ("_id.version", -1)]
        await ensure_indexes(self._records, IndexModel(keys, name="secret"))

    async def _count(self, app_id: str) -> int:
        counter = await self._records.find_one_and_update(
            {"_id": _id(app_id, _COUNTER, 0)},
            {"$inc": {"latest": 1}},
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
        return int(counter["latest"])

    async def _trim(self, app_id: str, name: str) -> None:
        chosen = {"_id.app_id": app_id, "_id.name": name}
        cursor = self._records.find(chosen, {"_id": 1}, sort=[("_id.version", -1)], skip=KEPT, max_time_ms=2000)
        old = [record["_id"] async for record in cursor]
        if old:
            await self._records.delete_many({"_id": {"$in": old}})

    @property
    def _records(self) -> Any:
        return self._deployment.client[self._control][COLLECTION]


def _id(app_id: str, name: str, version: int) -> dict[str, Any]:
    return {"app_id": app_id, "name": name, "version": version}


def _check(name: str, value: str) -> None:
    if not NAME.fullmatch(name):
        raise BadRequest("A secret's name has 1 to 64 letters, digits and . _ - and begins with a letter")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        size = 0
    if not 0 < size <= LARGEST:
        raise BadRequest(f"A secret is a text of 1 to {LARGEST} bytes")
