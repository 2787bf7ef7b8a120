"""Domains: hosts that tenants claim as their own, prove by a TXT record, and keep as long as the record is there.

`pending -> verified -> active`, and from each of them `failed` or `removed`. A claim that is not proved keeps nobody out. Who
proves a host has it alone; after a removal it serves nobody until its DNS leads elsewhere, or somebody else proves it.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import ObjectId
from pymongo import IndexModel, ReturnDocument
from pymongo.errors import DuplicateKeyError

from hooks.errors import Conflict, NotFound, TooManyRequests
from services.control.tenants import control_database
from services.database.deployment import Deployment
from services.database.faults import DRIVER_ERRORS, from_driver
from services.database.schema import ensure_indexes

COLLECTION = "domains"
PENDING, VERIFIED, ACTIVE, FAILED, REMOVED = STATES = ("pending", "verified", "active", "failed", "removed")
SERVED = (VERIFIED, ACTIVE)
"""The states in which requests to the host mean the tenant."""
CHALLENGE = "_roost-challenge"
"""The label below which the TXT record is looked for."""
MOST = 100
"""Domains of one tenant."""
RECHECK = timedelta(hours=6)
UNPROVED = timedelta(days=7)
"""For how long a claim may wait for its proof, and a proof may be missing before the host is lost."""
_HELD = "held_unique"

Record = dict[str, Any]


class Domains:
    """The repository of domains, of all tenants: each method names whose."""

    def __init__(self, deployment: Deployment, *, database: str) -> None:
        self._deployment = deployment
        self._control = control_database(database)

    async def prepare(self) -> None:
        """Makes a host unique once it is proved, and a tenant's claims unique by host."""
        await ensure_indexes(
            self._documents,
            # `held` is there only while it is true: a claim that is not proved is in nobody's way.
            IndexModel([("host", 1)], name=_HELD, unique=True, partialFilterExpression={"held": True}),
            IndexModel([("app_id", 1), ("host", 1)], name="app_id_1_host_1", unique=True),
            IndexModel([("next_check", 1)], name="next_check_1"),
        )

    async def find(self, app_id: str, chosen: Mapping[str, Any]) -> list[Record]:
        """A tenant's domains by host, without those that were removed."""
        states = {"state": {"$ne": REMOVED}}
        try:
            cursor = self._documents.find(
                {"$and": [{"app_id": app_id}, states, chosen]}, sort=[("host", 1)], limit=MOST
            )
            return [document async for document in cursor]
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    async def get(self, app_id: str, id: str) -> Record:
        """One of a tenant's domains.

        Raises:
            NotFound: it has none with this id.
        """
        if ObjectId.is_valid(id) and (found := await self.find(app_id, {"_id": ObjectId(id)})):
            return found[0]
        raise NotFound(f"No record found for id '{id[:64]}'")

    async def claim(self, app_id: str, host: str) -> Record:
        """A new claim with a challenge of its own; one that failed or was removed begins anew.

        Raises:
            Conflict: the tenant has claimed it already. TooManyRequests: it has claimed too many.
        """
        now = datetime.now(UTC)
        fresh = {
            "state": PENDING,
            "token": secrets.token_urlsafe(24),
            "created_at": now,
            "next_check": now + RECHECK,
            "verified_at": None,
            "checked_at": None,
            "missing_since": now,
        }
        try:
            count = await self._documents.count_documents({"app_id": app_id, "state": {"$ne": REMOVED}})
            if count >= MOST:
                raise TooManyRequests(f"An app has at most {MOST} domains")
            return dict(
                await self._documents.find_one_and_update(
                    {"app_id": app_id, "host": host, "state": {"$in": [FAILED, REMOVED]}},
                    {"$set": fresh},
                    upsert=True,
                    return_document=ReturnDocument.AFTER,
                )
            )
        except DuplicateKeyError as error:
            raise Conflict(f"The domain '{host}' is claimed already") from error
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    async def settle(self, record: Record, now: datetime, *, is_proved: bool, leads_here: bool) -> Record:
        """The domain after a look at its DNS at this moment.

        Raises:
            Conflict: somebody else has proved the host. NotFound: it was removed meanwhile.
        """
        change = _after(record, now, is_proved=is_proved, leads_here=leads_here)
        is_taking = record["state"] not in SERVED and change["$set"]["state"] in SERVED
        try:
            if is_taking:
                # Whoever proves it ends the quarantine that another one's removal, or deletion, has left.
                await self._documents.delete_many(
                    {"host": record["host"], "state": REMOVED, "app_id": {"$exists": False}}
                )
                await self._documents.update_many(
                    {"host": record["host"], "state": REMOVED, "app_id": {"$ne": record["app_id"]}},
                    {"$unset": {"held": "", "next_check": ""}},
                )
            found = await self._documents.find_one_and_update(
                {"_id": record["_id"], "token": record["token"], "state": record["state"]},
                change,
                return_document=ReturnDocument.AFTER,
            )
        except DuplicateKeyError as error:
            raise Conflict(f"The domain '{record['host']}' belongs to another app") from error
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        if found is None:
            raise NotFound("The domain was changed meanwhile: look at it again")
        return dict(found)

    async def remove(self, app_id: str, id: str) -> Record:
        """Ends a claim. A host that was proved serves nobody from now on, and stays held for the time being.

        Raises:
            NotFound: the tenant has no such domain.
        """
        record = await self.get(app_id, id)
        change: dict[str, Any] = {"$set": {"state": REMOVED, "next_check": datetime.now(UTC) + RECHECK}}
        if not record.get("held"):
            change = {"$set": {"state": REMOVED}, "$unset": {"next_check": ""}}
        try:
            await self._documents.update_one({"_id": record["_id"], "app_id": app_id}, change)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        return {**record, "state": REMOVED}

    async def remove_all(self, app_id: str) -> None:
        """Ends all claims of a tenant that is deleted. What it held stays held as after any removal, in nobody's name: of such
        a host nothing is kept but the host (CP-28).
        """
        quarantine = {"state": REMOVED, "held": True, "next_check": datetime.now(UTC) + RECHECK}
        try:
            await self._documents.delete_many({"app_id": app_id, "held": {"$ne": True}})
            await self._documents.update_many(
                {"app_id": app_id}, [{"$replaceWith": {"_id": "$_id", "host": "$host", **quarantine}}]
            )
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    async def due(self, now: datetime) -> Record | None:
        """A domain that is to be looked at again, if there is one; no other process gets it as well."""
        try:
            found = await self._documents.find_one_and_update(
                {"next_check": {"$lte": now}},
                {"$set": {"next_check": now + RECHECK}},
                sort=[("next_check", 1)],
                return_document=ReturnDocument.AFTER,
            )
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        return None if found is None else dict(found)

    async def release(self, record: Record) -> None:
        """Ends the quarantine of a removed host."""
        try:
            await self._documents.delete_one({"_id": record["_id"], "state": REMOVED})
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error

    @property
    def _documents(self) -> Any:
        return self._deployment.client[self._control][COLLECTION]


def challenge(record: Record) -> tuple[str, str]:
    """The name and the value of the TXT record that proves a claim."""
    return f"{CHALLENGE}.{record['host']}", f"roost-verify={record['token']}"


def _after(record: Record, now: datetime, *, is_proved: bool, leads_here: bool) -> dict[str, Any]:
    """What a look at the DNS changes."""
    if is_proved:
        kept = record["verified_at"] or now
        state = ACTIVE if leads_here else VERIFIED
        own = {"state": state, "checked_at": now, "verified_at": kept, "missing_since": None, "held": True}
        return {"$set": {**own, "next_check": now + RECHECK}}
    missing = record["missing_since"] or now
    if record["state"] != FAILED and now - missing < UNPROVED:
        return {"$set": {"state": record["state"], "checked_at": now, "missing_since": missing}}
    return {
        "$set": {"state": FAILED, "checked_at": now, "missing_since": missing},
        "$unset": {"held": "", "next_check": ""},
    }
