"""Authorization codes: what a browser takes from one page to another, so that the other one may log in (RFC 6749, RFC 7636).

A code is good for a minute and once, for the client, the address and the challenge for which it was issued. The database has
its hash alone. One that is shown again was seen by somebody else: the session that came of it ends.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from hooks.context import Record
from hooks.errors import TooManyRequests
from hooks.tenant import Tenant
from services.database.schema import CollectionSchema, Expiry, Index
from services.isolation import Isolation, ScopedCollection

COLLECTION: Final = "oauth_codes"
COLLECTIONS: Final = (CollectionSchema(COLLECTION, (Index((("app_id", 1), ("session", 1))), Expiry("expires_at"))),)

LIFETIME: Final = timedelta(seconds=60)
REMEMBERED: Final = timedelta(minutes=15)
"""For how long it is known that a code was used."""
PER_SESSION: Final = 20
"""Codes of one session that are good at the same time."""

CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
VERIFIER: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}")
_CODE = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a client asks for."""

    client_id: str
    redirect_uri: str
    challenge: str
    organization: str | None = None
    """A name or id; of what was granted, the id."""


@dataclass(frozen=True, slots=True)
class Granted:
    """What a code is good for."""

    session: str
    """The session that has granted it."""
    child: str
    """The id of the session that comes of it."""
    organization: str | None


class Codes:
    """The codes of whichever tenant is named."""

    def __init__(self, isolation: Isolation, *, clock: Callable[[], float] = time.time) -> None:
        """`clock` tells the seconds since 1970."""
        self._isolation = isolation
        self._clock = clock

    async def issue(self, tenant: Tenant, session: str, wanted: Wanted) -> str:
        """A new code.

        Raises:
            TooManyRequests: the session has many that are still good.
        """
        codes, now = self._codes(tenant), self._now()
        if await codes.count({"session": session, "good_until": {"$gt": now}, "used": False}) >= PER_SESSION:
            raise TooManyRequests(
                "Too many codes were asked for: wait a minute", data={"retry_after": LIFETIME.seconds}
            )
        code = secrets.token_urlsafe(32)
        record: Record = {
            "_id": _key(tenant, code),
            "client_id": wanted.client_id,
            "redirect_uri": wanted.redirect_uri,
            "challenge": wanted.challenge,
            "organization": wanted.organization,
            "session": session,
            "child": secrets.token_hex(16),
            "used": False,
            "good_until": now + LIFETIME,
            "expires_at": now + REMEMBERED,
        }
        await codes.insert([record])
        return code

    async def take(self, tenant: Tenant, code: str, client: str, redirect_uri: str, verifier: str) -> Granted | None:
        """What a code is good for, once: of many who take it at the same time one gets it. A wrong guess uses nothing up."""
        if not _CODE.fullmatch(code) or not VERIFIER.fullmatch(verifier):
            return None
        chosen = {
            "_id": _key(tenant, code),
            "client_id": client,
            "redirect_uri": redirect_uri,
            "challenge": challenge_of(verifier),
            "used": False,
            "good_until": {"$gt": self._now()},
        }
        found = await self._codes(tenant).find_one_and_update(chosen, {"$set": {"used": True}})
        return None if found is None else Granted(found["session"], found["child"], found["organization"])

    async def note_reuse(self, tenant: Tenant, code: str) -> str | None:
        """Takes note that a code that was used is shown again, whoever does it; the id of the session that came of it."""
        if not _CODE.fullmatch(code):
            return None
        chosen = {"_id": _key(tenant, code), "used": True}
        found = await self._codes(tenant).find_one_and_update(chosen, {"$set": {"reused": True}})
        return None if found is None else str(found["child"])

    async def is_reused(self, tenant: Tenant, code: str) -> bool:
        """Whether it was shown again."""
        return await self._codes(tenant).count({"_id": _key(tenant, code), "reused": True}) > 0

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    def _codes(self, tenant: Tenant) -> ScopedCollection:
        return self._isolation.collection(tenant, COLLECTION)


def challenge_of(verifier: str) -> str:
    """What a client tells of its verifier before: the method S256, and no other."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def _key(tenant: Tenant, code: str) -> str:
    return hashlib.sha256(f"{tenant.id}\n{code}".encode()).hexdigest()
