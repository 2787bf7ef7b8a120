"""Access tokens that must not be accepted (LIMITS A1): what is odd in a header, in claims, or about the whole."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm

from services.authentication.keys import KeyRecord, SigningKey
from services.authentication.tokens import DAY, LARGEST

INVALID = {
    "name": "NotAuthenticated",
    "message": "invalid token",
    "code": 401,
    "className": "not-authenticated",
    "data": {"name": "JsonWebTokenError"},
}
"""The one body."""


@dataclass(frozen=True)
class Forger:
    """Somebody who has a good token, all public keys, and, worse than any attacker, the signing key of the app."""

    signing: SigningKey
    own: KeyRecord
    other: KeyRecord
    """A key of another app."""
    token: str
    payload: dict[str, Any]

    def sign(self, claims: Any, header: dict[str, Any] | None = None) -> str:
        """What the app's own key says: claims and header of any kind."""
        head = {"alg": "ES256", "kid": self.own.kid, "typ": "access", **(header or {})}
        signed = f"{encode(head)}.{encode(claims)}"
        signature = jwt.get_algorithm_by_name("ES256").sign(signed.encode(), self.signing.private)
        return f"{signed}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def encode(value: Any) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def without(claims: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in claims.items() if key != name}


HEADERS: dict[str, Callable[[Forger], dict[str, Any]]] = {
    "another typ": lambda f: {"typ": "refresh"},
    "the usual typ": lambda f: {"typ": "JWT"},
    "kid of another tenant": lambda f: {"kid": f.other.kid},
    "kid path": lambda f: {"kid": "../../dev/null"},
    "kid sql": lambda f: {"kid": "' or 1=1 --"},
    "kid url": lambda f: {"kid": "https://evil.example/key"},
    "kid list": lambda f: {"kid": [f.own.kid]},
    "kid object": lambda f: {"kid": {"$ne": ""}},
    "kid null": lambda f: {"kid": None},
    "kid number": lambda f: {"kid": 0},
    "kid empty": lambda f: {"kid": ""},
    "kid nul": lambda f: {"kid": f.own.kid + "\0"},
    "kid space": lambda f: {"kid": " " + f.own.kid},
    "kid in other letters": lambda f: {"kid": f.own.kid.swapcase()},
    "kid long": lambda f: {"kid": f.own.kid * 100},
    "kid proto": lambda f: {"kid": "__proto__"},
    "kid true": lambda f: {"kid": True},
    "jku": lambda f: {"jku": "https://evil.example/jwks.json"},
    "jwk": lambda f: {"jwk": dict(f.own.public)},
    "x5u": lambda f: {"x5u": "https://evil.example/cert"},
    "x5c": lambda f: {"x5c": ["MII"]},
    "x5t": lambda f: {"x5t": "AAAA"},
    "jku of our own": lambda f: {"jku": "/.well-known/jwks.json?appId=acme"},
    "jwk null": lambda f: {"jwk": None},
    "crit": lambda f: {"crit": ["exp"]},
    "crit empty": lambda f: {"crit": []},
    "crit null": lambda f: {"crit": None},
    "cty": lambda f: {"cty": "JWT"},
    "epk": lambda f: {"epk": dict(f.own.public)},
    "b64": lambda f: {"b64": False, "crit": ["b64"]},
    "zip": lambda f: {"zip": "DEF"},
    "alg none": lambda f: {"alg": "none"},
    "alg None": lambda f: {"alg": "None"},
    "alg ES384": lambda f: {"alg": "ES384"},
    "alg es256": lambda f: {"alg": "es256"},
    "alg EdDSA": lambda f: {"alg": "EdDSA"},
    "alg empty": lambda f: {"alg": ""},
    "alg list": lambda f: {"alg": ["ES256"]},
    "alg null": lambda f: {"alg": None},
}


CLAIMS: dict[str, Callable[[dict[str, Any]], Any]] = {
    **{f"no {name}": partial(without, name=name) for name in ("iss", "aud", "sub", "iat", "exp", "jti", "app_id")},
    "aud list": lambda claims: {**claims, "aud": [claims["aud"]]},
    "float exp": lambda claims: {**claims, "exp": claims["exp"] + 0.5},
    "text exp": lambda claims: {**claims, "exp": str(claims["exp"])},
    "true exp": lambda claims: {**claims, "exp": True},
    "null exp": lambda claims: {**claims, "exp": None},
    "far exp": lambda claims: {**claims, "exp": 10**30},
    "infinite exp": lambda claims: {**claims, "exp": float("inf")},
    "number sub": lambda claims: {**claims, "sub": 7},
    "object sub": lambda claims: {**claims, "sub": {"$ne": ""}},
    "empty sub": lambda claims: {**claims, "sub": ""},
    "number sid": lambda claims: {**claims, "sid": 7},
    "object sid": lambda claims: {**claims, "sid": {"$ne": ""}},
    "null sid": lambda claims: {**claims, "sid": None},
    "app_id of another": lambda claims: {**claims, "app_id": "globex"},
    "app_id list": lambda claims: {**claims, "app_id": ["acme"]},
    "iat of tomorrow": lambda claims: {**claims, "iat": claims["iat"] + DAY},
    "text nbf": lambda claims: {**claims, "nbf": "0"},
    "no object": lambda claims: [claims],
    "no json": lambda claims: b"\xff{",
}


def hs256(forger: Forger) -> str:
    public = ECAlgorithm.from_jwk(dict(forger.own.public))
    assert isinstance(public, ec.EllipticCurvePublicKey)
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    signed = f"{encode({'alg': 'HS256', 'kid': forger.own.kid, 'typ': 'access'})}.{encode(forger.payload)}"
    return f"{signed}.{encode(hmac.digest(pem, signed.encode(), hashlib.sha256))}"


def rs256(forger: Forger) -> str:
    private = rsa.generate_private_key(65537, 2048)
    return jwt.encode(forger.payload, private, algorithm="RS256", headers={"kid": forger.own.kid, "typ": "access"})


FORGERIES: dict[str, Callable[[Forger], str]] = {
    "none, unsigned": lambda f: f"{encode({'alg': 'none', 'kid': f.own.kid, 'typ': 'access'})}.{encode(f.payload)}.",
    "HS256 by the public key": hs256,
    "RS256": rs256,
    "1 MB": lambda f: f.token + "A" * 1_000_000,
    "just too long": lambda f: f.token.ljust(LARGEST + 1, "A"),
    "no json": lambda f: f"{encode(b'{')}.{encode(f.payload)}.AAAA",
    "header list": lambda f: f"{encode([])}.{encode(f.payload)}.AAAA",
    "deep header": lambda f: f"{encode(b'[' * 5000)}.e30.AAAA",
    "no base64": lambda f: "!.!.!",
    "not ascii": lambda f: "é.é.é",
    "half a pair": lambda f: "\ud800.\ud800.\ud800",
}
