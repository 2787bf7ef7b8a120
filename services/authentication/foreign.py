"""Tokens that others have signed: opened with the key that they name, by the algorithm which that key is for."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeGuard

import jwt
from jwt.utils import base64url_decode

from hooks.errors import NotAuthenticated
from services.authentication.keysets import VerificationKey

LARGEST = 16 * 1024
"""Characters of the longest token that is looked at."""
LEEWAY = 30
"""Seconds by which the provider's clock may differ: for `iat` and `nbf`, never for `exp`."""
LONGEST_SUBJECT = 512

_FORBIDDEN = frozenset({"jku", "jwk", "x5u", "x5c", "crit", "b64", "zip"})
_SIGNATURE_ALONE: Any = {
    "verify_signature": True,
    **{f"verify_{claim}": False for claim in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")},
}

FindKey = Callable[[str], Awaitable[VerificationKey | None]]
"""The key of an id, among those of the one who should have signed."""


async def open_token(token: object, find_key: FindKey) -> dict[str, Any]:
    """The claims of a token that one of the keys has signed; of the claims nothing is checked.

    Raises:
        NotAuthenticated: it is no such token.
    """
    if not isinstance(token, str) or len(token) > LARGEST or token.count(".") != 2:
        raise refusal()
    header = _decode_header(token.partition(".")[0])
    kid = header.get("kid")
    if not _FORBIDDEN.isdisjoint(header) or not isinstance(kid, str) or not kid:
        raise refusal()
    key = await find_key(kid)
    # The key says which algorithm it is for; the token has no choice.
    if key is None or header.get("alg") != key.algorithm:
        raise refusal()
    try:
        claims: dict[str, Any] = jwt.decode(token, key.key, algorithms=[key.algorithm], options=_SIGNATURE_ALONE)
    except jwt.InvalidTokenError as error:
        raise refusal() from error
    return claims


def check_times(claims: Mapping[str, Any], now: float) -> None:
    """Lets a token pass that is valid now: it has `exp` and `iat`, and may have `nbf`.

    Raises:
        NotAuthenticated: it is not valid now.
    """
    times = [claims.get("exp"), claims.get("iat"), claims.get("nbf", 0)]
    if not all(_is_time(moment) for moment in times):
        raise refusal()
    if now >= claims["exp"] or max(claims["iat"], claims.get("nbf", 0)) > now + LEEWAY:
        raise refusal()


def is_subject(subject: object) -> TypeGuard[str]:
    """Whether a provider can call somebody so."""
    return isinstance(subject, str) and 0 < len(subject) <= LONGEST_SUBJECT and subject.isprintable()


def refusal() -> NotAuthenticated:
    """The one error for every token that is not taken."""
    return NotAuthenticated("invalid token", data={"name": "JsonWebTokenError"})


def _decode_header(part: str) -> dict[str, Any]:
    try:
        header = json.loads(base64url_decode(part))
    except (ValueError, RecursionError) as error:
        raise refusal() from error
    if not isinstance(header, dict):
        raise refusal()
    return header


def _is_time(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**53
