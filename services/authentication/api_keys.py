"""API keys: how other servers call as themselves, within scopes.

A key reads `rk_<tenant>_<id>_<secret>` and is its own access token: nothing is issued for it, and it ends when its record
does. The record is `{_id: <id>, name, hash, scopes, created_by, created_at, expires_at, last_use}`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from hooks.context import Authentication, Params, Record
from hooks.errors import BadRequest, NotAuthenticated, NotFound
from hooks.scopes import KEY_PREFIX, PRINCIPAL_PREFIX, STRATEGY
from hooks.tenant import Tenant
from services.authentication.ledger import moment
from services.authentication.recent import RecentByTenant
from services.authentication.sessions import NoSessions, Sessions
from services.authentication.strategy import Proof
from services.database.schema import CollectionSchema, Index
from services.isolation import Isolation, ScopedCollection

COLLECTION = "api_keys"
COLLECTIONS = (CollectionSchema(COLLECTION, (Index((("app_id", 1), ("created_at", 1))),)),)

MOST_KEYS = 100
"""Of one tenant."""
MOST_SCOPES = 50
LONGEST_NAME = 100
LONGEST_LIFE = 10 * 366 * 24 * 60 * 60
"""Seconds that a key may live if it is to expire at all."""
_LAST_USE = timedelta(seconds=60)

_SCOPE = re.compile(r"\*|(\*|[A-Za-z][A-Za-z0-9_:/-]{0,255}):(\*|[A-Za-z][A-Za-z0-9_]{0,63})")
_FORM = re.compile(r"rk_([a-z0-9_-]{1,63})_([0-9a-f]{16})_([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key that is known."""

    id: str
    hash: str
    scopes: tuple[str, ...]
    expires_at: datetime | None
    last_use: datetime | None


class ApiKeys:
    """The keys of whichever tenant is named; also the strategy `api_key`, which takes `{key}`."""

    def __init__(
        self, isolation: Isolation, live: Sessions | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        """`live` is told when a key's live connections have to be logged out."""
        self._isolation = isolation
        self._live = live or NoSessions()
        self._clock = clock
        self._recent: RecentByTenant[ApiKey] = RecentByTenant(clock)

    async def create(self, tenant: Tenant, data: Mapping[str, Any], created_by: str) -> Record:
        """A new key of `{name, scopes, expires_in: <seconds>?}`: its record with `key`, which is shown this once.

        Raises:
            BadRequest: the data is wrong, or there are too many keys.
        """
        name, scopes, lifetime = _checked(data)
        keys = self._keys(tenant)
        if await keys.count({}) >= MOST_KEYS:
            raise _too_many()
        now = moment(self._clock())
        id, secret = secrets.token_hex(8), secrets.token_hex(32)
        record: Record = {
            "_id": id,
            "name": name,
            "hash": _hash(tenant, id, secret),
            "scopes": scopes,
            "created_by": created_by,
            "created_at": now,
            "expires_at": None if lifetime is None else now + timedelta(seconds=lifetime),
            "last_use": None,
        }
        await keys.insert([record])
        if await keys.count({}) > MOST_KEYS:
            # Others were made between the count and the writing.
            await keys.find_one_and_delete({"_id": id})
            raise _too_many()
        return {**shown(record), "key": f"{KEY_PREFIX}{tenant.id}_{id}_{secret}"}

    async def find(self, tenant: Tenant) -> list[Record]:
        """All keys, without their hashes, the oldest first."""
        found = await self._keys(tenant).find({}, sort=[("created_at", 1), ("_id", 1)], limit=MOST_KEYS)
        return [shown(record) for record in found]

    async def remove(self, tenant: Tenant, id: Any) -> Record:
        """Revokes a key, and logs out its live connections.

        Raises:
            NotFound: there is no such key.
        """
        found = await self._keys(tenant).find_one_and_delete({"_id": id}) if isinstance(id, str) and id else None
        if found is None:
            raise NotFound(f"No record found for id '{id}'")
        await self.forget(tenant.id, str(found["_id"]))
        return shown(found)

    async def forget(self, tenant_id: str, id: str) -> None:
        """Takes note that a key is gone, whoever removed it, and logs out its live connections."""
        self._recent.strike((tenant_id, id))
        await self._live.end_user(tenant_id, PRINCIPAL_PREFIX + id)

    async def authenticate(self, data: Mapping[str, Any], params: Params) -> Proof:
        """The strategy: see `verify`."""
        login, principal = await self.verify(params.tenant, data.get("key"))
        return Proof(principal, login)

    async def verify(self, tenant: Tenant, key: object) -> tuple[Authentication, Record]:
        """The login that a key stands for, and the service principal `{_id: "key:<id>", permissions}` it calls as.

        Raises:
            NotAuthenticated: it is no key of this tenant, is revoked or has expired: always in the same words.
        """
        form = _FORM.fullmatch(key) if isinstance(key, str) and len(key) < 256 else None
        if form is None or STRATEGY not in tenant.auth.strategies:
            raise _refusal()
        named, id, secret = form.groups()
        known = await self._find(tenant, id)
        # A key of another tenant is hashed with that tenant's name and matches none here, whatever its id.
        matches = hmac.compare_digest(known.hash if known else "0" * 64, _hash(tenant, id, secret))
        if known is None or not matches or named != tenant.id:
            raise _refusal()
        if known.expires_at is not None and known.expires_at <= moment(self._clock()):
            raise _refusal()
        payload: Record = {"sub": PRINCIPAL_PREFIX + id, "app_id": tenant.id, "scopes": [*known.scopes]}
        if known.expires_at is not None:
            payload["exp"] = int(known.expires_at.timestamp())
        principal: Record = {"_id": PRINCIPAL_PREFIX + id, "permissions": [*known.scopes]}
        return Authentication(STRATEGY, form.string, payload), principal

    async def find_one(self, tenant: Tenant, principal_id: str) -> ApiKey | None:
        """The key behind a principal's id, if it still counts."""
        known = await self._find(tenant, principal_id.removeprefix(PRINCIPAL_PREFIX))
        if known is None or STRATEGY not in tenant.auth.strategies:
            return None
        return None if known.expires_at is not None and known.expires_at <= moment(self._clock()) else known

    async def _find(self, tenant: Tenant, id: str) -> ApiKey | None:
        place = (tenant.id, id)
        known = self._recent.get(place)
        if known is None and not self._recent.is_struck(place):
            records = await self._keys(tenant).find({"_id": id}, limit=1)
            if records:
                known = _key(records[0])
                self._recent.put(place, known)
                await self._note_use(tenant, known)
        return None if self._recent.is_struck(place) else known

    async def _note_use(self, tenant: Tenant, key: ApiKey) -> None:
        now = moment(self._clock())
        if key.last_use is None or now - key.last_use > _LAST_USE:
            await self._keys(tenant).update_many({"_id": key.id}, {"$set": {"last_use": now}})

    def _keys(self, tenant: Tenant) -> ScopedCollection:
        return self._isolation.collection(tenant, COLLECTION)


def shown(record: Record) -> Record:
    """A key's record without its hash."""
    return {field: value for field, value in record.items() if field != "hash"}


def _too_many() -> BadRequest:
    return BadRequest(f"An app has at most {MOST_KEYS} API keys: remove one first")


def _refusal() -> NotAuthenticated:
    return NotAuthenticated("Invalid API key", data={"name": "ApiKeyError"})


def _checked(data: Mapping[str, Any]) -> tuple[str, list[str], float | None]:
    if unknown := sorted(set(data) - {"name", "scopes", "expires_in", "app_id"}):
        raise BadRequest(f"'{unknown[0][:64]}' is no setting of an API key: name, scopes and expires_in are")
    name, scopes, lifetime = data.get("name"), data.get("scopes"), data.get("expires_in")
    if not isinstance(name, str) or not 0 < len(name.strip()) <= LONGEST_NAME or not name.isprintable():
        raise BadRequest(f"The name of an API key is a text of 1 to {LONGEST_NAME} characters")
    if not isinstance(scopes, list) or not 0 < len(scopes) <= MOST_SCOPES:
        raise BadRequest(f"An API key has 1 to {MOST_SCOPES} scopes, such as 'messages:find' or '*'")
    for scope in scopes:
        if not isinstance(scope, str) or not _SCOPE.fullmatch(scope):
            raise BadRequest(f"A scope is '<service>:<method>' or '*', not {str(scope)[:64]!r}")
    if lifetime is not None and not (type(lifetime) in (int, float) and 1 <= lifetime <= LONGEST_LIFE):
        raise BadRequest(f"expires_in is a number of seconds from 1 to {LONGEST_LIFE}")
    return name.strip(), scopes, lifetime


def _key(record: Mapping[str, Any]) -> ApiKey:
    return ApiKey(
        str(record["_id"]), record["hash"], tuple(record["scopes"]), record.get("expires_at"), record.get("last_use")
    )


def _hash(tenant: Tenant, id: str, secret: str) -> str:
    return hashlib.sha256(f"{tenant.id}\n{id}\n{secret}".encode()).hexdigest()
