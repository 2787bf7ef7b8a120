"""Key sets of identity providers: the public keys by which their tokens are verified, each with the one algorithm it is for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from jwt.exceptions import InvalidKeyError

from services.authentication.fetched import Fetch, FetchedDocuments

MOST_KEYS = 50
_LEAST_RSA = 2048
_MOST_RSA = 8192


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A provider's public key and the only algorithm that is accepted with it."""

    key: RSAPublicKey | EllipticCurvePublicKey
    algorithm: str


KeySet = Mapping[str, VerificationKey]
"""Keys by id."""


class KeySets:
    """Fetched key sets by address: one fetch at a time, kept for ten minutes, bounded in number."""

    def __init__(self, fetch: Fetch, *, clock: Callable[[], float] = time.monotonic) -> None:
        sorry = "The identity provider's keys cannot be fetched at the moment: try again"
        self._sets = FetchedDocuments(fetch, lambda url, jwks: parse(jwks), kind="key set", sorry=sorry, clock=clock)

    async def find(self, url: str, kid: str) -> VerificationKey | None:
        """The key of that id; an unknown id has the set fetched again, but not too often.

        Raises:
            Unavailable: the set cannot be had now.
        """
        keys = await self._sets.find(url, lambda keys: kid in keys)
        return keys.get(kid)


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
