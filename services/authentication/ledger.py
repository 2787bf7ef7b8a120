"""The ledger: every session of a tenant's users, from the login that began it to whatever ends it.

A session is a record `{_id, user_id, device, created_at, last_use, valid_from, expires_at, persistent}`. Ending a session is
deleting its record: a token whose session has no record is worth nothing. A persistent one also has the hashes of its
refresh token, of which one part stays for the session's life, the family, and the other is replaced at each use: who shows
the right family with another part has a token that was used before, his or a thief's, and the session ends.

A session may come out of another one, its parent, for a client of its own (`begin_within`): it lasts no longer, and ends with
it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from hooks.context import Params, Record
from hooks.errors import NotAuthenticated, NotFound
from hooks.tenant import Tenant
from services.authentication.device import device_of
from services.authentication.recent import RecentByTenant
from services.authentication.sessions import NoSessions, Sessions
from services.database.schema import CollectionSchema, Expiry, Index
from services.isolation import Isolation, ScopedCollection

COLLECTION = "sessions"
COLLECTIONS = (CollectionSchema(COLLECTION, (Index((("app_id", 1), ("user_id", 1))), Expiry("expires_at"))),)

VALID_AFTER = "tokens_valid_after"
"""Field of a user: the moment before which no login counts any more, but for the one session that is `KEPT`."""
KEPT = "tokens_kept"

USERS = "users"
MOST_LISTED = 100
PREFIX = "rr_"
"""Refresh tokens read `rr_<session>_<family>_<secret>`; the last two are hexadecimal, of 128 and 256 bits."""
_PROOF = re.compile(r"[0-9a-f]{32}\.[0-9a-f]{64}")
_LAST_USE = timedelta(seconds=60)

REFUSED = "Invalid refresh token"


@dataclass(frozen=True, slots=True)
class Session:
    """A session that lasts."""

    id: str
    user_id: str
    valid_from: datetime
    """When the login began: what has changed since can end it."""
    last_use: datetime
    refresh_token: str | None = None
    """Set when it was made just now; the database has its hash alone."""
    expires_at: datetime | None = None
    """When it ends by itself."""
    parent: str | None = None
    """The session that it came out of, and with which it ends."""
    client_id: str | None = None
    """The client whose it is."""
    organization: str | None = None
    """The id of the organization for which it came out of its parent."""


class Ledger:
    """The sessions of whichever tenant is named."""

    def __init__(
        self, isolation: Isolation, live: Sessions | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        """`live` is told when live connections have to be logged out; `clock` tells the seconds since 1970."""
        self._isolation = isolation
        self._live = live or NoSessions()
        self._clock = clock
        self._recent: RecentByTenant[Session] = RecentByTenant(clock)

    def now(self) -> datetime:
        """The present moment, as exact as the database keeps it."""
        return moment(self._clock())

    async def begin(
        self, params: Params, user_id: str, valid_from: datetime, lifetime: float, *, keep: bool
    ) -> Session:
        """A new session of a user. It lasts as its access token, `lifetime` seconds; with `keep`, as its refresh token."""
        ends = self._expiry(params.tenant, lifetime) if keep else self.now() + timedelta(seconds=lifetime)
        return await self._begin(params, secrets.token_hex(16), user_id, valid_from, ends, keep=keep)

    async def begin_within(
        self, params: Params, parent: Session, id: str, *, organization: str | None, client: str, keep: bool
    ) -> Session:
        """A session of another client that comes out of one that lasts; with `keep` it has refresh tokens of its own.

        Raises:
            NotAuthenticated: the parent has ended meanwhile.
        """
        assert parent.expires_at is not None
        more = {"parent": parent.id, "organization": organization, "client_id": client}
        session = await self._begin(
            params, id, parent.user_id, parent.valid_from, parent.expires_at, keep=keep, more=more
        )
        # Whoever ends the parent ends what has come out of it by then: one of the two has met the other.
        if not await self._sessions(params.tenant).count({"_id": parent.id}):
            await self._end_quietly(params.tenant, session)
            raise ended()
        return session

    async def _begin(
        self,
        params: Params,
        id: str,
        user_id: str,
        valid_from: datetime,
        ends: datetime,
        *,
        keep: bool,
        more: Mapping[str, Any] | None = None,
    ) -> Session:
        now = self.now()
        family, secret = secrets.token_hex(16), secrets.token_hex(32)
        record: Record = {
            "_id": id,
            "user_id": user_id,
            "device": device_of(params),
            "created_at": now,
            "last_use": now,
            "valid_from": valid_from,
            "expires_at": ends,
            "persistent": keep,
            **(more or {}),
        }
        if keep:
            record["refresh"] = {"family": _hash(params.tenant, id, family), "secret": _hash(params.tenant, id, secret)}
            record["generation"] = 1
        await self._sessions(params.tenant).insert([record])
        session = _session(record, _token(id, family, secret) if keep else None)
        self._recent.put((params.tenant.id, id), session)
        return session

    async def rotate(self, params: Params, token: object, lifetime: float, *, until: datetime | None = None) -> Session:
        """The session of a refresh token, with the token that takes its place; the old one is used up.

        `lifetime` is that of the access token that follows; `until` is the end of the session, if that is not its own matter.

        Raises:
            NotAuthenticated: it is no refresh token of this tenant, or was used before: then its session is ended.
        """
        id, family, secret = _parse(token)
        tenant, fresh, now = params.tenant, secrets.token_hex(32), self.now()
        known = {"family": _hash(tenant, id, family), "secret": _hash(tenant, id, secret)}
        found = await self._sessions(tenant).find_one_and_update(
            {
                "_id": id,
                "refresh.family": known["family"],
                "refresh.secret": known["secret"],
                "expires_at": {"$gt": now},
            },
            {
                "$set": {
                    "refresh.secret": _hash(tenant, id, fresh),
                    "last_use": now,
                    "expires_at": until or self._expiry(tenant, lifetime),
                    "device": device_of(params),
                },
                "$inc": {"generation": 1},
            },
        )
        if found is None:
            await self._end_if_used_before(tenant, id, known["family"])
            raise NotAuthenticated(REFUSED)
        session = _session(found, _token(id, family, fresh))
        self._recent.put((tenant.id, id), session)
        return session

    async def prove(self, tenant: Tenant, id: str) -> str:
        """What a browser keeps as a proof that the session is its own, in place of what it had before (ADR 33).

        Raises:
            NotAuthenticated: the session has ended, or came out of another one, which alone is a browser's.
        """
        secret = secrets.token_hex(32)
        found = await self._sessions(tenant).find_one_and_update(
            {"_id": id, "parent": None, "expires_at": {"$gt": self.now()}},
            {"$set": {"browser": _hash(tenant, id, secret)}},
        )
        if found is None:
            raise ended()
        return f"{id}.{secret}"

    async def of_browser(self, tenant: Tenant, proof: str) -> Session | None:
        """The session that a browser proves to be its own."""
        id, _, secret = proof.partition(".")
        if not _PROOF.fullmatch(proof):
            return None
        chosen = {"_id": id, "browser": _hash(tenant, id, secret), "expires_at": {"$gt": self.now()}}
        found = await self._sessions(tenant).find(chosen, limit=1)
        return None if not found or self._recent.is_struck((tenant.id, id)) else _session(found[0])

    async def of_refresh_token(self, tenant: Tenant, token: str) -> Session | None:
        """The session of a refresh token, which stays as it is; one that was used before ends the session here too.

        Raises:
            NotAuthenticated: it has not the form of a refresh token.
        """
        id, family, secret = _parse(token)
        known = {"refresh.family": _hash(tenant, id, family), "refresh.secret": _hash(tenant, id, secret)}
        found = await self._sessions(tenant).find({"_id": id, **known, "expires_at": {"$gt": self.now()}}, limit=1)
        if not found:
            await self._end_if_used_before(tenant, id, known["refresh.family"])
            return None
        return None if self._recent.is_struck((tenant.id, id)) else _session(found[0])

    async def find_one(self, tenant: Tenant, payload: Mapping[str, Any]) -> Session | None:
        """The session of an access token, as far as is known without its user; None where there is none any more."""
        id = payload.get("sid")
        return await self._find(tenant, id) if isinstance(id, str) else None

    def check(self, tenant: Tenant, payload: Mapping[str, Any], session: Session | None, user: Record) -> None:
        """Passes the claims of an access token whose session lasts; `user` is the token's, with all fields.

        Raises:
            NotAuthenticated: it has ended.
        """
        id, after = payload.get("sid"), user.get(VALID_AFTER)
        if id is None:
            # Tokens that code has issued without a session; `iat` has whole seconds only.
            if isinstance(after, datetime) and payload["iat"] < int(after.timestamp()):
                raise ended()
            return
        lasts = session is not None and session.user_id == payload["sub"] and is_valid(session, user)
        if not lasts or self._recent.is_struck((tenant.id, id)):
            raise ended()

    def has_ended(self, payload: Mapping[str, Any]) -> bool:
        """Whether the session of an access token is known to have ended at its issuer, without any input or output."""
        id = payload.get("sid")
        return isinstance(id, str) and self._recent.is_struck((str(payload["app_id"]), id))

    async def find(self, tenant: Tenant, user_id: str) -> list[Record]:
        """The sessions of a user, those used last first, at most 100: without hashes."""
        records = await self._sessions(tenant).find(
            {"user_id": user_id, "expires_at": {"$gt": self.now()}},
            sort=[("last_use", -1), ("_id", -1)],
            limit=MOST_LISTED,
        )
        return [_shown(record) for record in records]

    async def end(self, tenant: Tenant, id: str, user_id: str | None = None) -> Record:
        """Ends one session, of this user if one is named, and logs out its live connections.

        Raises:
            NotFound: the user has no such session.
        """
        owner = {} if user_id is None else {"user_id": user_id}
        found = await self._sessions(tenant).find_one_and_delete({"_id": id, **owner})
        if found is None:
            raise NotFound(f"No record found for id '{id}'")
        await self.forget(tenant.id, str(found["_id"]))
        await self._end_children(tenant, found)
        return _shown(found)

    async def end_all(self, tenant: Tenant, user_id: str, *, but: str | None = None) -> list[Record]:
        """Ends all sessions of a user, also those that begin at this moment, but for the one that `but` names."""
        change: Record = {"$set": {VALID_AFTER: self.now(), KEPT: but}}
        await self._isolation.collection(tenant, USERS).find_one_and_update({"_id": user_id}, change)
        return await self.clear(tenant, user_id, but=but)

    async def clear(self, tenant: Tenant, user_id: str, *, but: str | None = None) -> list[Record]:
        """As `end_all`, for a user whose record says already from when on logins count, or who is gone.

        Answers with those used last, at most 100.
        """
        chosen: Record = {"user_id": user_id}
        if but is not None:
            chosen["_id"] = {"$ne": but}
        sessions = self._sessions(tenant)
        # Of somebody who has logged in a million times the last are told; the record of the user ends them all.
        records = await sessions.find(chosen, sort=[("last_use", -1), ("_id", -1)], limit=MOST_LISTED)
        await sessions.delete_many(chosen)
        ended = {(tenant.id, str(record["_id"])) for record in records}
        known = {(tenant.id, id) for id, session in self._recent.of(tenant.id) if session.user_id == user_id}
        for key in ended | known - {(tenant.id, but)}:
            self._recent.strike(key)
        await self._live.end_user(tenant.id, user_id, but=but)
        return [_shown(record) for record in records]

    async def forget(self, tenant_id: str, id: str) -> None:
        """Takes note that a session's record is gone, whoever deleted it, and logs out its live connections."""
        self._recent.strike((tenant_id, id))
        await self._live.end_session(tenant_id, id)

    async def _find(self, tenant: Tenant, id: str) -> Session | None:
        key = (tenant.id, id)
        known = self._recent.get(key)
        if known is None and not self._recent.is_struck(key):
            records = await self._sessions(tenant).find({"_id": id, "expires_at": {"$gt": self.now()}}, limit=1)
            if records:
                known = _session(records[0])
                self._recent.put(key, known)
                await self._note_use(tenant, known)
        return None if self._recent.is_struck(key) else known

    async def _note_use(self, tenant: Tenant, session: Session) -> None:
        now = self.now()
        if now - session.last_use > _LAST_USE:
            await self._sessions(tenant).update_many({"_id": session.id}, {"$set": {"last_use": now}})

    async def _end_if_used_before(self, tenant: Tenant, id: str, family: str) -> None:
        """Ends the session whose family is known: then the rest of the token was once right and is not any more."""
        found = await self._sessions(tenant).find({"_id": id}, limit=1)
        if found and hmac.compare_digest(str(found[0].get("refresh", {}).get("family")), family):
            await self._sessions(tenant).find_one_and_delete({"_id": id})
            await self.forget(tenant.id, id)
            await self._end_children(tenant, found[0])

    async def _end_children(self, tenant: Tenant, parent: Mapping[str, Any]) -> None:
        """Ends what has come out of a session that is over."""
        if "parent" in parent:
            return
        chosen = {"user_id": parent["user_id"], "parent": str(parent["_id"])}
        while children := await self._sessions(tenant).find(chosen, limit=MOST_LISTED):
            ids = [str(child["_id"]) for child in children]
            await self._sessions(tenant).delete_many({"_id": {"$in": ids}})
            for id in ids:
                await self.forget(tenant.id, id)

    async def _end_quietly(self, tenant: Tenant, session: Session) -> None:
        await self._sessions(tenant).delete_many({"_id": session.id})
        await self.forget(tenant.id, session.id)

    def _expiry(self, tenant: Tenant, lifetime: float) -> datetime:
        return self.now() + timedelta(seconds=max(lifetime, tenant.auth.refresh_token_lifetime))

    def _sessions(self, tenant: Tenant) -> ScopedCollection:
        return self._isolation.collection(tenant, COLLECTION)


def is_valid(session: Session, user: Record) -> bool:
    """Whether a login that began when this one did still counts for its user."""
    after = user.get(VALID_AFTER)
    return not isinstance(after, datetime) or session.valid_from >= after or user.get(KEPT) == session.id


def ended() -> NotAuthenticated:
    """The error for an access token whose session has ended."""
    return NotAuthenticated("The session has ended: log in again", data={"name": "SessionEndedError"})


def moment(seconds: float) -> datetime:
    """A moment in milliseconds, as MongoDB keeps it."""
    found = datetime.fromtimestamp(seconds, UTC)
    return found.replace(microsecond=found.microsecond // 1000 * 1000)


def _session(record: Mapping[str, Any], refresh_token: str | None = None) -> Session:
    return Session(
        str(record["_id"]),
        record["user_id"],
        record["valid_from"],
        record["last_use"],
        refresh_token,
        record["expires_at"],
        record.get("parent"),
        record.get("client_id"),
        record.get("organization"),
    )


def _shown(record: Record) -> Record:
    fields = ("_id", "user_id", "device", "created_at", "last_use", "expires_at", "persistent", "client_id")
    return {field: record[field] for field in fields if field in record}


def _token(id: str, family: str, secret: str) -> str:
    return f"{PREFIX}{id}_{family}_{secret}"


def _parse(token: object) -> tuple[str, str, str]:
    parts = token.split("_") if isinstance(token, str) and len(token) == len(PREFIX) + 32 + 1 + 32 + 1 + 64 else []
    match parts:
        case ["rr", id, family, secret] if all(part.isascii() and part.isalnum() for part in (id, family, secret)):
            return id, family, secret
    raise NotAuthenticated(REFUSED)


def _hash(tenant: Tenant, id: str, secret: str) -> str:
    return hashlib.sha256(f"{tenant.id}\n{id}\n{secret}".encode()).hexdigest()
