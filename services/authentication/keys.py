"""Signing keys: each tenant has its own ES256 key pairs, and a key id means nothing outside of its tenant."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import structlog
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from jwt.algorithms import ECAlgorithm

from hooks.errors import GeneralError
from services.authentication.master import BrokenSeal, MasterKey

ALGORITHM = "ES256"
SIGNING = "signing"
"""The state of a key that signs new tokens. Keys in any other state only verify."""
VERIFYING = "verifying"
"""The state of a key that another one has taken the place of."""

MOST_TENANTS = 10_000
"""For how many tenants keys are kept in memory."""
RELOAD = 1.0
"""Seconds that must pass before an unknown key id is looked for in the store again, per tenant."""

_PURPOSE = "signing key"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key pair at rest. `public` is a JWK; `sealed` is the private key, readable with the master key alone.

    From `retires_at` on nothing that it has signed is accepted; None is never.
    """

    kid: str
    app_id: str
    public: Mapping[str, str]
    sealed: bytes
    created_at: datetime
    state: str = SIGNING
    retires_at: datetime | None = None

    def to_document(self) -> dict[str, Any]:
        """What is stored: `{_id: kid, app_id, public, sealed, created_at, state, retires_at}`."""
        return {
            "_id": self.kid,
            "app_id": self.app_id,
            "public": dict(self.public),
            "sealed": self.sealed,
            "created_at": self.created_at,
            "state": self.state,
            "retires_at": self.retires_at,
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> KeyRecord:
        """The record that `to_document` made."""
        return cls(
            kid=document["_id"],
            app_id=document["app_id"],
            public=document["public"],
            sealed=bytes(document["sealed"]),
            created_at=document["created_at"],
            state=document["state"],
            retires_at=document.get("retires_at"),
        )

    def serves(self, now: float) -> bool:
        """Whether what the key has signed is accepted at this second since 1970."""
        return self.retires_at is None or now < self.retires_at.timestamp()


class KeyStore(Protocol):
    """Where keys are kept."""

    async def load(self, app_id: str) -> list[KeyRecord]:
        """All keys of one tenant."""
        ...

    async def insert(self, record: KeyRecord) -> None:
        """Keeps a new key."""
        ...

    async def retire(self, app_id: str, kids: Sequence[str], at: datetime) -> None:
        """Has these keys of a tenant only verify, and that until `at`, or until an earlier moment that is set."""
        ...

    async def retiring(self, now: datetime) -> Sequence[str]:
        """The ids of the tenants that have a key which will retire after `now`."""
        ...


class MemoryKeyStore:
    """Keeps keys as long as the process lives: for tests and trials."""

    def __init__(self) -> None:
        self.records: dict[str, KeyRecord] = {}

    async def load(self, app_id: str) -> list[KeyRecord]:
        """All keys of one tenant."""
        return [record for record in self.records.values() if record.app_id == app_id]

    async def insert(self, record: KeyRecord) -> None:
        """Keeps a new key."""
        self.records[record.kid] = record

    async def retire(self, app_id: str, kids: Sequence[str], at: datetime) -> None:
        """Has these keys of a tenant only verify, and that until `at`, or until an earlier moment that is set."""
        for kid in kids:
            record = self.records[kid]
            if record.app_id == app_id and (record.retires_at is None or record.retires_at > at):
                self.records[kid] = replace(record, state=VERIFYING, retires_at=at)

    async def retiring(self, now: datetime) -> Sequence[str]:
        """The ids of the tenants that have a key which will retire after `now`."""
        return [*{record.app_id for record in self.records.values() if record.retires_at and record.retires_at > now}]


@dataclass(frozen=True, slots=True, repr=False)
class SigningKey:
    """A private key in use."""

    kid: str
    private: EllipticCurvePrivateKey


class KeyRing:
    """The keys of one tenant as they were at one moment. A change makes a new ring."""

    __slots__ = ("_by_kid", "loaded", "public", "records", "signing")

    def __init__(self, records: Sequence[KeyRecord], loaded: float) -> None:
        """`loaded` is the moment of the load, on the clock of `Keys`."""
        self.loaded = loaded
        self.records = tuple(sorted(records, key=lambda record: (record.created_at, record.kid)))
        self.public = {record.kid: _public_key(record) for record in self.records}
        self.signing: SigningKey | None = None
        """The private key, once it was needed."""
        self._by_kid = {record.kid: record for record in self.records}

    def serves(self, kid: str, now: float) -> bool:
        """Whether there is a key of this id, and what it has signed is accepted at this second since 1970."""
        record = self._by_kid.get(kid)
        return record is not None and record.serves(now)


class Keys:
    """The keys of all tenants: loaded by one task at a time for each tenant, and kept for the most recent tenants."""

    def __init__(
        self,
        store: KeyStore,
        master: MasterKey,
        *,
        most_tenants: int = MOST_TENANTS,
        reload: float = RELOAD,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock` measures time that passes; `wall_clock` tells the seconds since 1970, by which keys retire."""
        self._store = store
        self._master = master
        self._most = most_tenants
        self._reload = reload
        self._clock = clock
        self._wall_clock = wall_clock
        self._rings: OrderedDict[str, KeyRing] = OrderedDict()
        self._loads: dict[str, asyncio.Task[KeyRing]] = {}

    async def create(self, tenant_id: str) -> KeyRecord:
        """Makes a key pair that signs from now on; earlier ones go on verifying."""
        private = generate_private_key(SECP256R1())
        kid = secrets.token_urlsafe(16)
        encoded = private.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        record = KeyRecord(
            kid=kid,
            app_id=tenant_id,
            public=_to_jwk(private.public_key(), kid),
            sealed=self._master.seal(encoded, _PURPOSE, tenant_id, kid),
            created_at=datetime.now(UTC),
        )
        await self._store.insert(record)
        self.forget(tenant_id)
        return record

    async def rotate(self, tenant_id: str, overlap: float = 0.0) -> KeyRecord:
        """Makes a key pair that signs from now on; earlier ones verify for `overlap` seconds more, and then never again."""
        earlier = [record.kid for record in await self._store.load(tenant_id)]
        record = await self.create(tenant_id)
        at = datetime.fromtimestamp(self._wall_clock(), UTC) + timedelta(seconds=overlap)
        await self._store.retire(tenant_id, earlier, at)
        self.forget(tenant_id)
        return record

    async def records(self, tenant_id: str) -> Sequence[KeyRecord]:
        """All keys of a tenant that are kept, the oldest first."""
        return KeyRing(await self._store.load(tenant_id), self._clock()).records

    async def retiring(self) -> Sequence[str]:
        """The ids of the tenants that have a key which will retire."""
        return await self._store.retiring(datetime.fromtimestamp(self._wall_clock(), UTC))

    async def next_retirement(self, tenant_id: str) -> float | None:
        """When, in seconds since 1970, the next of the tenant's keys retires, as far as is known here; None is never."""
        now = self._wall_clock()
        moments = [
            record.retires_at.timestamp() for record in (await self._ring(tenant_id)).records if record.retires_at
        ]
        return min((moment for moment in moments if moment > now), default=None)

    async def serves(self, tenant_id: str, kid: str) -> bool:
        """Whether what the tenant's key of that id has signed is accepted now."""
        return (await self._ring(tenant_id)).serves(kid, self._wall_clock())

    async def ensure(self, tenant_id: str) -> None:
        """Makes the tenant's first key pair if it has none that signs."""
        if _signer(await self._ring(tenant_id)) is None:
            await self.create(tenant_id)

    async def signing_key(self, tenant_id: str) -> SigningKey:
        """The key that signs the tenant's new tokens: the newest that is in state `signing`.

        Raises:
            GeneralError: there is none, or the master key does not open it; the log says which.
        """
        ring = await self._ring(tenant_id)
        if ring.signing is None:
            ring.signing = self._open(tenant_id, _signer(ring))
        return ring.signing

    async def verification_key(self, tenant_id: str, kid: str) -> EllipticCurvePublicKey | None:
        """The tenant's public key of that id; a key of another tenant is as unknown as one that never was."""
        ring = await self._ring(tenant_id)
        if kid not in ring.public and self._clock() - ring.loaded >= self._reload:
            self.forget(tenant_id)
            ring = await self._ring(tenant_id)
        return ring.public.get(kid) if ring.serves(kid, self._wall_clock()) else None

    async def jwks(self, tenant_id: str) -> dict[str, Any]:
        """The tenant's public keys that are accepted now, as a JWK set."""
        now, ring = self._wall_clock(), await self._ring(tenant_id)
        return {"keys": [dict(record.public) for record in ring.records if record.serves(now)]}

    def ring(self, tenant_id: str) -> KeyRing | None:
        """The tenant's keys if they are in memory. What was verified by one ring holds as long as it is the ring, and
        the key serves.
        """
        return self._rings.get(tenant_id)

    def forget(self, tenant_id: str) -> None:
        """Has the tenant's keys loaded again when they are next needed: call it when they may have changed."""
        self._rings.pop(tenant_id, None)
        self._loads.pop(tenant_id, None)

    async def _ring(self, tenant_id: str) -> KeyRing:
        ring = self._rings.get(tenant_id)
        if ring is not None:
            self._rings.move_to_end(tenant_id)
            return ring
        load = self._loads.get(tenant_id)
        if load is None:
            load = self._loads[tenant_id] = asyncio.create_task(self._load(tenant_id))
            load.add_done_callback(lambda done: self._keep(tenant_id, done))
        return await asyncio.shield(load)

    async def _load(self, tenant_id: str) -> KeyRing:
        loaded = self._clock()
        records = await self._store.load(tenant_id)
        return KeyRing([record for record in records if record.app_id == tenant_id], loaded)

    def _keep(self, tenant_id: str, load: asyncio.Task[KeyRing]) -> None:
        failed = load.cancelled() or load.exception() is not None
        if self._loads.get(tenant_id) is not load:
            return  # Forgotten meanwhile: what it loaded may be out of date.
        self._loads.pop(tenant_id, None)
        if not failed:
            self._rings[tenant_id] = load.result()
            while len(self._rings) > self._most:
                self._rings.popitem(last=False)

    def _open(self, tenant_id: str, record: KeyRecord | None) -> SigningKey:
        if record is None:
            log.error("the tenant has no signing key", tenant=tenant_id)
            raise GeneralError
        try:
            encoded = self._master.open(record.sealed, _PURPOSE, tenant_id, record.kid)
        except BrokenSeal as error:
            log.exception("the master key does not open the tenant's signing key", tenant=tenant_id, kid=record.kid)
            raise GeneralError from error
        private = serialization.load_der_private_key(encoded, password=None)
        if not isinstance(private, EllipticCurvePrivateKey) or private.public_key() != _public_key(record):
            log.error("the halves of the tenant's signing key do not belong together", tenant=tenant_id, kid=record.kid)
            raise GeneralError
        return SigningKey(record.kid, private)


def _signer(ring: KeyRing) -> KeyRecord | None:
    return next((record for record in reversed(ring.records) if record.state == SIGNING), None)


def _public_key(record: KeyRecord) -> EllipticCurvePublicKey:
    key = ECAlgorithm.from_jwk(dict(record.public))
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise GeneralError from ValueError(f"the public key {record.kid} is no P-256 public key")
    return key


def _to_jwk(key: EllipticCurvePublicKey, kid: str) -> dict[str, str]:
    return {**ECAlgorithm.to_jwk(key, as_dict=True), "kid": kid, "use": "sig", "alg": ALGORITHM}
