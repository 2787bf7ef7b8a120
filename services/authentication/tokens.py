"""Access tokens: JWTs that one tenant's key signs and that only that tenant accepts."""

from __future__ import annotations

import json
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jwt
from jwt.utils import base64url_decode

from hooks.errors import NotAuthenticated
from hooks.tenant import Tenant
from services.authentication.keys import ALGORITHM, KeyRing, Keys

Payload = dict[str, Any]

TYPE = "access"
DAY = 24 * 60 * 60
LARGEST = 8 * 1024
"""Characters of the longest token that is looked at."""
LEEWAY = 30
"""Seconds by which the clocks of two servers may differ: for `iat` and `nbf`, never for `exp`."""
MOST_VERIFIED = 10_000
"""How many verified tokens are remembered."""

_HEADER = frozenset({"alg", "kid", "typ"})
_LAST_SECOND = 253_402_300_799
_SIGNATURE_ALONE: Any = {
    "verify_signature": True,
    **{f"verify_{claim}": False for claim in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")},
}


@dataclass(frozen=True, slots=True)
class _Verified:
    """A token that was verified by a ring's key."""

    ring: KeyRing
    signer: tuple[str, str]
    """The tenant's id and the key's."""
    payload: Payload


class Tokens:
    """Issues and verifies access tokens."""

    def __init__(
        self,
        keys: Keys,
        *,
        issuer: str = "roost",
        lifetime: int = DAY,
        most_verified: int = MOST_VERIFIED,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`lifetime` in seconds; `clock` tells the seconds since 1970."""
        self._keys = keys
        self._issuer = issuer
        self._lifetime = lifetime
        self._most = most_verified
        self._clock = clock
        self._verified: OrderedDict[tuple[str, str], _Verified] = OrderedDict()

    def lifetime(self, tenant: Tenant) -> int:
        """Seconds for which a new token of the tenant is valid."""
        own = tenant.auth.access_token_lifetime
        return self._lifetime if own is None else own

    async def issue(self, tenant: Tenant, user_id: str, session: str | None = None) -> tuple[str, Payload]:
        """A new token for a user of the tenant, and its claims `{iss, aud, sub, iat, exp, jti, app_id, sid?}`."""
        key = await self._keys.signing_key(tenant.id)
        now = int(self._clock())
        payload: Payload = {
            "iss": self._issuer,
            "aud": audience(tenant),
            "sub": user_id,
            "iat": now,
            "exp": now + self.lifetime(tenant),
            "jti": str(uuid.uuid4()),
            "app_id": tenant.id,
        }
        if session is not None:
            payload["sid"] = session
        token = jwt.encode(payload, key.private, algorithm=ALGORITHM, headers={"kid": key.kid, "typ": TYPE})
        return token, payload

    async def verify(self, tenant: Tenant, token: object) -> Payload:
        """The claims of a token that this tenant issued and that is valid now.

        Raises:
            NotAuthenticated: in all other cases. What a forger can vary always gets the same answer, `invalid token`.
        """
        if token is None or token == "":
            raise refusal("jwt must be provided")
        if not isinstance(token, str):
            raise refusal("jwt must be a string")
        key = (tenant.id, token)
        known = self._verified.get(key)
        if known is not None and self._keys.ring(tenant.id) is known.ring and await self._keys.serves(*known.signer):
            self._verified.move_to_end(key)
            self._check_time(known.payload)
            return dict(known.payload)
        self._verified.pop(key, None)
        kid, payload = await self._check_signature(tenant, token)
        self._check_claims(tenant, payload)
        self._check_time(payload)
        self._remember(key, kid, payload)
        return dict(payload)

    async def is_signed_by_serving_key(self, tenant: Tenant, token: str) -> bool:
        """Whether the key of a token that was verified once is still one of the tenant's; all else stays unchecked."""
        return await self._keys.serves(tenant.id, str(_decode_header(token.partition(".")[0]).get("kid")))

    def _remember(self, key: tuple[str, str], kid: str, payload: Payload) -> None:
        ring = self._keys.ring(key[0])
        if ring is not None:
            self._verified[key] = _Verified(ring, (key[0], kid), payload)
            while len(self._verified) > self._most:
                self._verified.popitem(last=False)

    async def _check_signature(self, tenant: Tenant, token: str) -> tuple[str, Payload]:
        if len(token) > LARGEST:
            raise refusal("invalid token")
        parts = token.split(".")
        if len(parts) != 3:
            raise refusal("jwt malformed")
        header = _decode_header(parts[0])
        # Exactly our three: no key comes inside a token (jku, jwk, x5u, x5c), nothing changes its meaning (crit, b64).
        if header.keys() != _HEADER or header["alg"] != ALGORITHM or header["typ"] != TYPE:
            raise refusal("invalid token")
        if not parts[2]:
            raise refusal("jwt signature is required")
        kid = header["kid"]
        key = await self._keys.verification_key(tenant.id, kid) if isinstance(kid, str) else None
        if key is None:
            raise refusal("invalid token")
        try:
            payload: Payload = jwt.decode(token, key, algorithms=[ALGORITHM], options=_SIGNATURE_ALONE)
        except jwt.InvalidSignatureError as error:
            raise refusal("invalid signature") from error
        except jwt.InvalidTokenError as error:
            raise refusal("invalid token") from error
        return kid, payload

    def _check_claims(self, tenant: Tenant, payload: Mapping[str, Any]) -> None:
        texts = [payload.get(name) for name in ("iss", "aud", "sub", "jti", "app_id")]
        times = [payload.get("iat"), payload.get("exp"), payload.get("nbf", 0)]
        if not all(isinstance(text, str) and text for text in texts) or not all(map(_is_time, times)):
            raise refusal("invalid token")
        if "sid" in payload and not isinstance(payload["sid"], str):
            raise refusal("invalid token")
        if payload["app_id"] != tenant.id:
            raise refusal("invalid token")
        if payload["aud"] != audience(tenant):
            raise refusal(f"jwt audience invalid. expected: {audience(tenant)}")
        if payload["iss"] != self._issuer:
            raise refusal(f"jwt issuer invalid. expected: {self._issuer}")

    def _check_time(self, payload: Mapping[str, Any]) -> None:
        now = self._clock()
        if now >= payload["exp"]:
            raise refusal("jwt expired", "TokenExpiredError", expiredAt=_moment(payload["exp"]))
        if payload["iat"] > now + LEEWAY:
            raise refusal("invalid token")
        if payload.get("nbf", 0) > now + LEEWAY:
            raise refusal("jwt not active", "NotBeforeError", date=_moment(payload["nbf"]))


def audience(tenant: Tenant) -> str:
    """Whom the tenant's tokens are for."""
    return f"urn:roost:tenant:{tenant.id}"


def refusal(message: str, name: str = "JsonWebTokenError", **data: str) -> NotAuthenticated:
    """The error for a token that is not accepted, in the words that Feathers clients know."""
    return NotAuthenticated(message, data={"name": name, **data})


def _decode_header(part: str) -> dict[str, Any]:
    try:
        header = json.loads(base64url_decode(part))
    except (ValueError, RecursionError) as error:
        raise refusal("invalid token") from error
    if not isinstance(header, dict):
        raise refusal("invalid token")
    return header


def _is_time(value: object) -> bool:
    return type(value) is int and 0 <= value <= _LAST_SECOND


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
