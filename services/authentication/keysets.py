"""Key sets of identity providers: the public keys by which their tokens are verified, each with the one algorithm it is for."""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from jwt.exceptions import InvalidKeyError

from hooks.errors import FeathersError, Unavailable

Fetch = Callable[[str], Awaitable[bytes]]
"""Gets a document from an address that a tenant has named, with all the care which that needs."""

FRESH = 600.0
"""Seconds for which a fetched set is used."""
AGAIN = 30.0
"""Seconds that must pass before an unknown key id, or a failure, has a set fetched again."""
STALE = 24 * 3600.0
"""Seconds for which a set that cannot be fetched again is still used."""
MOST_SETS = 1_000
MOST_KEYS = 50
_LEAST_RSA = 2048
_MOST_RSA = 8192

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A provider's public key and the only algorithm that is accepted with it."""

    key: RSAPublicKey | EllipticCurvePublicKey
    algorithm: str


KeySet = Mapping[str, VerificationKey]
"""Keys by id."""


@dataclass(slots=True)
class _Fetched:
    keys: KeySet
    fetched: float
    tried: float


class KeySets:
    """Fetched key sets by address: one fetch at a time, kept for ten minutes, bounded in number."""

    def __init__(self, fetch: Fetch, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._clock = clock
        self._sets: OrderedDict[str, _Fetched] = OrderedDict()
        self._failed: OrderedDict[str, float] = OrderedDict()
        self._loads: dict[str, asyncio.Task[None]] = {}

    async def find(self, url: str, kid: str) -> VerificationKey | None:
        """The key of that id; an unknown id has the set fetched again, but not too often.

        Raises:
            Unavailable: the set cannot be had now.
        """
        now = self._clock()
        known = self._sets.get(url)
        if known is None:
            if now - self._failed.get(url, -AGAIN) < AGAIN:
                raise _unreachable()
            await self._load(url)
            known = self._sets.get(url)
        elif now - known.tried >= AGAIN and (now - known.fetched >= FRESH or kid not in known.keys):
            await self._load(url)
            known = self._sets.get(url)
        if known is None or now - known.fetched >= STALE:
            raise _unreachable()
        return known.keys.get(kid)

    async def _load(self, url: str) -> None:
        load = self._loads.get(url)
        if load is None:
            load = self._loads[url] = asyncio.create_task(self._look_up(url))
            load.add_done_callback(lambda _: self._loads.pop(url, None))
        await asyncio.shield(load)

    async def _look_up(self, url: str) -> None:
        now = self._clock()
        try:
            keys = parse(json.loads(await self._fetch(url)))
        except (FeathersError, OSError, ValueError, RecursionError, TimeoutError) as error:
            log.warning("key set not fetched", url=url, error=type(error).__name__)
            if url in self._sets:
                self._sets[url].tried = now
            else:
                self._failed[url] = now
                _trim(self._failed)
            return
        self._sets[url] = _Fetched(keys, now, now)
        self._sets.move_to_end(url)
        self._failed.pop(url, None)
        _trim(self._sets)


def parse(jwks: object) -> KeySet:
    """The keys of a JWK set that can verify ES256 or RS256; all others are passed over.

    Raises:
        ValueError: it is no JWK set.
    """
    entries = jwks.get("keys") if isinstance(jwks, Mapping) else None
    if not isinstance(entries, (list, tuple)):
        raise ValueError("a key set is an object with a list of keys")
    keys: dict[str, VerificationKey] = {}
    ambiguous: set[str] = set()
    for entry in entries[:MOST_KEYS]:
        key = _parse_key(entry) if isinstance(entry, Mapping) else None
        if key is None:
            continue
        kid = str(entry["kid"])
        if kid in keys:
            ambiguous.add(kid)
        keys[kid] = key
    return {kid: key for kid, key in keys.items() if kid not in ambiguous}


def _parse_key(jwk: Mapping[str, Any]) -> VerificationKey | None:
    if not isinstance(jwk.get("kid"), str) or not jwk["kid"] or jwk.get("use", "sig") != "sig" or "d" in jwk:
        return None
    try:
        if jwk.get("kty") == "RSA" and jwk.get("alg", "RS256") == "RS256":
            rsa = RSAAlgorithm.from_jwk(dict(jwk))
            if isinstance(rsa, RSAPublicKey) and _LEAST_RSA <= rsa.key_size <= _MOST_RSA:
                return VerificationKey(rsa, "RS256")
        if jwk.get("kty") == "EC" and jwk.get("alg", "ES256") == "ES256":
            ec = ECAlgorithm.from_jwk(dict(jwk))
            if isinstance(ec, EllipticCurvePublicKey) and isinstance(ec.curve, SECP256R1):
                return VerificationKey(ec, "ES256")
    except (InvalidKeyError, ValueError, TypeError, KeyError):
        return None
    return None


def _unreachable() -> Unavailable:
    return Unavailable("The identity provider's keys cannot be fetched at the moment: try again")


def _trim(kept: OrderedDict[str, Any]) -> None:
    while len(kept) > MOST_SETS:
        kept.popitem(last=False)
