"""An identity provider for tests: its keys, and tokens of any kind that they sign."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

ISSUER = "https://idp.example/acme"
AUDIENCE = "roost-acme"

RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())

RSA_JWK: dict[str, Any] = {**RSAAlgorithm.to_jwk(RSA_KEY.public_key(), as_dict=True), "kid": "r1", "use": "sig"}
EC_JWK: dict[str, Any] = {**ECAlgorithm.to_jwk(EC_KEY.public_key(), as_dict=True), "kid": "e1", "alg": "ES256"}
JWKS: dict[str, Any] = {"keys": [RSA_JWK, EC_JWK]}


def claims(now: float, **more: Any) -> dict[str, Any]:
    """The claims of a good token; None leaves one out."""
    own = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "tid": "acme", "iat": int(now), "exp": int(now) + 600, **more}
    return {name: value for name, value in own.items() if value is not None}


def sign(payload: Any, *, kid: str = "e1", key: Any = None, header: Mapping[str, Any] | None = None) -> str:
    """A token that one of the provider's keys, or another, has signed, whatever its header says."""
    key = key or (RSA_KEY if kid == "r1" else EC_KEY)
    is_rsa = isinstance(key, rsa.RSAPrivateKey)
    head = {"alg": "RS256" if is_rsa else "ES256", "kid": kid, "typ": "JWT", **(header or {})}
    signed = f"{encode({name: value for name, value in head.items() if value is not None})}.{encode(payload)}"
    algorithm = jwt.get_algorithm_by_name("RS256" if is_rsa else "ES256")
    return f"{signed}.{encode(algorithm.sign(signed.encode(), key))}"


def encode(value: Any) -> str:
    """A part of a token."""
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).decode().rstrip("=")
