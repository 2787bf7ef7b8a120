"""Public keys: random names of tenants for front ends to embed. A key selects a tenant, and grants nothing else.

Two are good at once, so that a front end with the older one works until it is built anew.
"""

from __future__ import annotations

import re
import secrets
from typing import Any

from pymongo import IndexModel, ReturnDocument

from hooks.errors import NotFound
from services.database.faults import DRIVER_ERRORS, from_driver

PUBLIC_KEY = re.compile(r"pk_[A-Za-z0-9_-]{24}")
VALID_AT_ONCE = 2
UNIQUE = IndexModel(
    [("public_keys", 1)],
    name="public_keys_unique",
    unique=True,
    partialFilterExpression={"public_keys": {"$exists": True}},
)
"""No key is that of two tenants."""


def fresh() -> str:
    """A new key, of 144 random bits."""
    return f"pk_{secrets.token_urlsafe(18)}"


async def rotate(tenants: Any, id: str) -> tuple[str, ...]:
    """Gives a tenant a new key; the one before stays valid, older ones are not any more. Its keys, the newest first.

    `tenants` is the catalogue's collection.

    Raises:
        NotFound: there is no such tenant.
    """
    pushed = {"public_keys": {"$each": [fresh()], "$position": 0, "$slice": VALID_AT_ONCE}}
    change = {"$push": pushed, "$inc": {"epoch": 1, "settings_rev": 1}, "$currentDate": {"updated_at": True}}
    try:
        found = await tenants.find_one_and_update({"_id": id}, change, return_document=ReturnDocument.AFTER)
    except DRIVER_ERRORS as error:
        raise from_driver(error) from error
    if found is None:
        raise NotFound(f"There is no tenant '{id}'")
    return tuple(found["public_keys"])


async def complete(tenants: Any) -> None:
    """Gives a key to each tenant that has none yet."""
    exists = {"public_keys.0": {"$exists": True}}
    async for tenant in tenants.find({"$nor": [exists]}, {"_id": 1}):
        change = {"$set": {"public_keys": [fresh()]}, "$inc": {"epoch": 1}, "$currentDate": {"updated_at": True}}
        await tenants.update_one({"_id": tenant["_id"], "$nor": [exists]}, change)
