"""Sign-ins by other providers that were begun and not ended yet: each for one tenant, one provider, one browser and one use.

What begins a sign-in is given a state, which travels through the provider, and a proof, which stays in the browser. The record
is found by the hash of both, so a state alone is worth nothing, wherever it was seen. The PKCE verifier and the nonce are
derived from the proof: at rest there is no secret at all.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from hooks.context import Record
from hooks.errors import TooManyRequests
from hooks.tenant import Tenant
from services.database.schema import CollectionSchema, Expiry, Index
from services.isolation import Isolation, ScopedCollection

COLLECTION: Final = "oauth_states"
COLLECTIONS: Final = (CollectionSchema(COLLECTION, (Index((("app_id", 1), ("address", 1))), Expiry("expires_at"))),)

LIFETIME: Final = timedelta(minutes=10)
PER_ADDRESS: Final = 100
"""Sign-ins from one address that may be under way in an app."""
PER_TENANT: Final = 10_000

_STATE = re.compile(r"([a-z0-9-]{3,63})\.[A-Za-z0-9_-]{43}")
_PROOF = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class SignIn:
    """A sign-in that is under way."""

    state: str = field(repr=False)
    proof: str = field(repr=False)
    redirect: str
    """Where it leads in the end."""
    login: Mapping[str, Any] | None = None
    """The claims of the login that has begun it, in order to be linked."""

    @property
    def verifier(self) -> str:
        """What the exchange of the code has to prove (RFC 7636)."""
        return self._derive("verifier")

    @property
    def challenge(self) -> str:
        """What is told of the verifier before."""
        return _base64url(hashlib.sha256(self.verifier.encode()).digest())

    @property
    def nonce(self) -> str:
        """What the ID token has to repeat."""
        return self._derive("nonce")

    def _derive(self, what: str) -> str:
        return _base64url(hmac.digest(self.proof.encode(), f"{what}\n{self.state}".encode(), "sha256"))


class OAuthStates:
    """The sign-ins of whichever tenant is named."""

    def __init__(self, isolation: Isolation, *, clock: Callable[[], float] = time.time) -> None:
        """`clock` tells the seconds since 1970."""
        self._isolation = isolation
        self._clock = clock

    async def begin(
        self, tenant: Tenant, provider: str, redirect: str, *, address: str, login: Mapping[str, Any] | None = None
    ) -> SignIn:
        """A new sign-in; `address` is where it comes from.

        Raises:
            TooManyRequests: too many are under way.
        """
        records, now = self._records(tenant), self._now()
        if await records.count({"address": address, "expires_at": {"$gt": now}}) >= PER_ADDRESS:
            raise TooManyRequests("Too many sign-ins are under way from here: wait some minutes")
        if await records.count({"expires_at": {"$gt": now}}) >= PER_TENANT:
            raise TooManyRequests("Too many sign-ins are under way: wait some minutes")
        sign_in = SignIn(f"{tenant.id}.{secrets.token_urlsafe(32)}", secrets.token_urlsafe(32), redirect, login)
        record: Record = {
            "_id": _key(sign_in.state, sign_in.proof),
            "provider": provider,
            "redirect": redirect,
            "login": None if login is None else {name: login[name] for name in ("sub", "sid", "iat") if name in login},
            "address": address,
            "expires_at": now + LIFETIME,
        }
        await records.insert([record])
        return sign_in

    async def take(self, tenant: Tenant, provider: str, state: str, proof: object) -> SignIn | None:
        """The sign-in, once: of many who take it at the same time one gets it. None is for all who do not."""
        if app_of(state) != tenant.id or not isinstance(proof, str) or not _PROOF.fullmatch(proof):
            return None
        chosen = {"_id": _key(state, proof), "provider": provider, "expires_at": {"$gt": self._now()}}
        found = await self._records(tenant).find_one_and_delete(chosen)
        return None if found is None else SignIn(state, proof, found["redirect"], found["login"])

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    def _records(self, tenant: Tenant) -> ScopedCollection:
        return self._isolation.collection(tenant, COLLECTION)


def app_of(state: str) -> str | None:
    """The app that a state names; whether it is one of that app's only `take` knows."""
    found = _STATE.fullmatch(state)
    return found[1] if found else None


def _key(state: str, proof: str) -> str:
    return hashlib.sha256(f"{state}\n{proof}".encode()).hexdigest()


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")
