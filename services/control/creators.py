"""Creators: how many apps a user of the control plane may have made (RL-4)."""

from __future__ import annotations

from typing import Any

from services.control.tenants import COLLECTION, control_database
from services.database.deployment import Deployment
from services.database.faults import DRIVER_ERRORS, from_driver
from services.database.transaction import current_session
from services.limits.quotas import QuotaExceeded

CREATORS = "creators"
"""Who has made apps under a quota: a record each, which every new app of his writes to."""


class Creators:
    """Counts the catalogue's apps by who has made them."""

    def __init__(self, deployment: Deployment, *, database: str) -> None:
        self._deployment = deployment
        self._control = control_database(database)

    async def charge(self, creator: str, most: int) -> None:
        """Refuses the app that a creator has just made in this transaction, if it is one more than he may have.

        Raises:
            QuotaExceeded: with the name, the limit and how many he has.
        """
        session = current_session(self._deployment.client)
        try:
            # Two transactions that write to the same record do not both go through: none counts without the other's app.
            touched = {"$inc": {"made": 1}}
            await self._collection(CREATORS).update_one({"_id": creator}, touched, upsert=True, session=session)
            made = await self._collection(COLLECTION).count_documents(
                {"created_by": creator}, session=session, maxTimeMS=2000
            )
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        if made > most:
            data = {"reason": "QuotaExceeded", "name": "tenants", "limit": most, "used": made - 1}
            raise QuotaExceeded(f"You have made {made - 1} apps, and may have {most}", data=data)

    def _collection(self, name: str) -> Any:
        return self._deployment.client[self._control][name]
