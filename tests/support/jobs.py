"""Waiting for work in the background."""

from __future__ import annotations

from server.main import Roost
from services.control.jobs import COLLECTION
from services.control.tenants import control_database
from services.jobs.model import ENDED
from services.mail.outbox import JOB
from tests.support.client import until


async def mailed(roost: Roost) -> None:
    """Returns when all mails that are to be sent have been sent, or given up."""
    await roost.people.errands.settled()
    jobs = roost.backend.deployment.client[control_database(roost.settings.database)][COLLECTION]

    async def all_ended() -> bool:
        return await jobs.find_one({"name": JOB, "state": {"$nin": [*ENDED]}}) is None

    await until(all_ended, 15)
