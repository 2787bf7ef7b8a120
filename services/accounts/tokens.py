"""Single-use tokens: what a mailed link carries. The database has their hashes alone.

A token is a record `{_id: <hash>, kind, subject, email, mark, ..., created_at, expires_at}`. It is bound to its tenant by the
`_id`, to its purpose by `kind`, to its owner by `subject`, which is `user:<id>` or `mail:<key of an address>`, to the address
that it was sent to, and by `mark` to the password that its owner had. Beside the tokens stand notes `{_id: "sent-<hash>",
kind: "sent:<kind>", subject, ...}` that tell how many mails went out.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from hooks.context import Record
from hooks.errors import BadRequest, Conflict, FeathersError, Timeout
from hooks.tenant import Tenant
from services.database.schema import CollectionSchema, Expiry, Index
from services.isolation import Isolation, ScopedCollection

COLLECTION: Final = "account_tokens"
COLLECTIONS: Final = (CollectionSchema(COLLECTION, (Index((("app_id", 1), ("subject", 1))), Expiry("expires_at"))),)

Purpose = Literal["verify", "reset", "change_email", "invite", "organization_invite"]
LIFETIMES: Final[Mapping[Purpose, timedelta]] = {
    "verify": timedelta(hours=72),
    "reset": timedelta(hours=1),
    "change_email": timedelta(hours=24),
    "invite": timedelta(hours=168),
    "organization_invite": timedelta(hours=168),
}
LONGEST: Final = 128
PER_HOUR: Final = 5
"""Mails of one kind to one subject in an hour; besides, at most one in each minute of the clock."""


class AccountTokens:
    """The tokens of whichever tenant is named."""

    def __init__(self, isolation: Isolation, *, clock: Callable[[], float] = time.time) -> None:
        """`clock` tells the seconds since 1970."""
        self._isolation = isolation
        self._clock = clock

    async def issue(self, tenant: Tenant, purpose: Purpose, subject: str, email: str, **details: Any) -> str:
        """A new token of 256 bits, sent to `email` and nowhere else; `details` come back when it is used."""
        token = secrets.token_urlsafe(32)
        now = self._now()
        record: Record = {
            **details,
            "_id": _hash(token),
            "kind": purpose,
            "subject": subject,
            "email": email,
            "created_at": now,
            "expires_at": now + LIFETIMES[purpose],
        }
        await self._records(tenant).insert([record])
        return token

    @asynccontextmanager
    async def use(self, tenant: Tenant, purpose: Purpose, token: object) -> AsyncIterator[Record]:
        """Takes a token away, for a block that does what it is for; of many uses at once one gets it.

        When the block refuses (an error of 400 to 499, such as a name that is taken), the token is put back.

        Raises:
            BadRequest: there is no such token here: it never was, was used or voided, or has expired.
        """
        if not isinstance(token, str):
            raise BadRequest("The token must be a text")
        if not 0 < len(token) <= LONGEST:
            raise invalid_token()
        records = self._records(tenant)
        chosen = {"_id": _hash(token), "kind": purpose, "expires_at": {"$gt": self._now()}}
        found = await records.find_one_and_delete(chosen)
        if found is None:
            raise invalid_token()
        try:
            yield found
        except InvalidToken:
            raise
        except Timeout:
            # What was to be done may have been done.
            raise
        except FeathersError as error:
            if 400 <= error.code < 500:
                await records.insert([found])
            raise

    async def void(self, tenant: Tenant, *subjects: str) -> None:
        """Takes away all tokens of these subjects."""
        await self._records(tenant).delete_many({"subject": {"$in": list(subjects)}})

    async def write_nothing(self, tenant: Tenant) -> None:
        """Takes as long as writing a record does: for where no record is written, and nobody may notice."""
        now = self._now()
        note = {"_id": f"sent-{secrets.token_hex(32)}", "kind": "sent:nothing", "subject": "nobody"}
        await self._records(tenant).insert([{**note, "created_at": now, "expires_at": now + timedelta(minutes=1)}])

    async def may_mail(self, tenant: Tenant, kind: str, subject: str) -> bool:
        """Whether a further mail of a kind may go to a subject now; if so, it is noted down as sent."""
        now, sent = self._now(), f"sent:{kind}"
        records = self._records(tenant)
        hour_ago = now - timedelta(hours=1)
        if await records.count({"subject": subject, "kind": sent, "created_at": {"$gt": hour_ago}}) >= PER_HOUR:
            return False
        note = {
            "_id": "sent-" + hashlib.sha256(f"{kind}\n{subject}\n{int(now.timestamp() // 60)}".encode()).hexdigest(),
            "kind": sent,
            "subject": subject,
            "created_at": now,
            "expires_at": now + timedelta(hours=1),
        }
        try:
            await records.insert([note])
        except Conflict:
            return False
        return True

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    def _records(self, tenant: Tenant) -> ScopedCollection:
        return self._isolation.collection(tenant, COLLECTION)


class InvalidToken(BadRequest):
    """This link does not work any more: ask for a new one"""

    @property
    def name(self) -> str:
        return "BadRequest"


def invalid_token() -> InvalidToken:
    """The one error for every token that is none."""
    return InvalidToken()


def user_subject(user_id: object) -> str:
    """The subject of tokens of a user."""
    return f"user:{user_id}"


def mail_subject(key: str) -> str:
    """The subject of tokens of an address that has no user yet; `key` is the address's normal form."""
    return f"mail:{key}"


def mark_of(user: Mapping[str, Any]) -> str:
    """What a token remembers of its owner's password: it is another one after every change of it."""
    hashed = user.get("password")
    return hashlib.sha256(hashed.encode()).hexdigest() if isinstance(hashed, str) else ""


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
