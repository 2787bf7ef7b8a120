"""The rules of the server's own services, Roost's and those of plug-ins, as they were when a server last started.

They come with the code, not by a declaration: what is different at a start is kept here, for the audit logs of the apps.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bson import ObjectId
from pymongo.errors import DuplicateKeyError

from hooks.errors import Unavailable
from hooks.rules import Rules
from services.control import tenants
from services.control.tenants import control_database
from services.database.deployment import Deployment
from services.database.faults import DRIVER_ERRORS, from_driver

COLLECTION = "own_rules"
MOST_CHANGES = 50
"""Changes that are kept, the newest ones."""
MOST_SERVICES = 100
"""Services that one change names."""
_ID = "rules"
_ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class RuleChange:
    """A start of a server whose own services had other rules than at the start before."""

    id: ObjectId
    at: datetime
    services: tuple[str, ...]
    """The paths of those whose rules are different, that are new, or that are gone."""


class OwnRules:
    """Fingerprints of the rules by service, and the last changes of them, in the control database."""

    def __init__(self, deployment: Deployment, *, database: str) -> None:
        self._deployment = deployment
        self._control = control_database(database)

    async def note(self, rules: Mapping[str, Rules]) -> RuleChange | None:
        """Compares the rules by path with those of the last start, and keeps them; what is different, if anything is.

        The first start of all has nothing to compare with.

        Raises:
            Unavailable: other servers start at this moment with other rules, again and again.
        """
        seen = [[path, fingerprint(rules[path])] for path in sorted(rules)]
        try:
            for _ in range(_ATTEMPTS):
                found = await self._documents.find_one({"_id": _ID}, max_time_ms=2000)
                if found is None:
                    try:
                        await self._documents.insert_one({"_id": _ID, "seen": seen, "changes": []})
                    except DuplicateKeyError:
                        continue
                    return None
                if found["seen"] == seen:
                    return None
                before, after = dict(found["seen"]), dict(seen)
                paths = sorted(path for path in {*before, *after} if before.get(path) != after.get(path))
                change = {"_id": ObjectId(), "at": datetime.now(UTC), "services": paths[:MOST_SERVICES]}
                written = await self._documents.update_one(
                    {"_id": _ID, "seen": found["seen"]},
                    {"$set": {"seen": seen}, "$push": {"changes": {"$each": [change], "$slice": -MOST_CHANGES}}},
                )
                if written.matched_count:
                    return _to_change(change)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        raise Unavailable("Other servers are starting with other rules: try again")

    async def changes_since_creation(self, tenant_id: str) -> list[RuleChange]:
        """The changes that this tenant has lived to see, the oldest first."""
        try:
            found = await self._documents.find_one({"_id": _ID}, max_time_ms=2000)
            if found is None or not found["changes"]:
                return []
            catalogue = self._deployment.client[self._control][tenants.COLLECTION]
            tenant = await catalogue.find_one({"_id": tenant_id}, {"created_at": 1}, max_time_ms=2000)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        if tenant is None:
            return []
        since = tenant["created_at"]
        return [_to_change(change) for change in found["changes"] if change["at"] >= since]

    @property
    def _documents(self) -> Any:
        return self._deployment.client[self._control][COLLECTION]


def fingerprint(rules: Rules) -> str:
    """The same for the same rules, in whatever order they are written."""
    text = json.dumps({method: rules[method] for method in rules}, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()


def _to_change(stored: Mapping[str, Any]) -> RuleChange:
    return RuleChange(stored["_id"], stored["at"], tuple(stored["services"]))
