"""Access tokens: JWTs that one tenant's key signs, its issuer's, and that one tenant accepts, in which they take effect.

The two are the same, but for tokens of the control plane in one of its organizations: those take effect in the tenant that
the organization stands for. The claim `app_id` names the issuer, `tid` the effective tenant.
"""

from __future__ import annotations

import json
import time
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import jwt
from jwt.utils import base64url_decode

from hooks.errors import Forbidden, NotAuthenticated, TooManyRequests
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

LONGEST_IN_ORGANIZATION = 600
"""Seconds for which a token in an organization is valid at most (TK-13)."""
_MOST_WORDS = 4 * 1024
"""Characters of the permissions that a token tells; longer lists it leaves out. What counts is what the server finds itself."""

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


Issuers = Callable[[str], Awaitable[Tenant | None]]
"""A tenant that is known, by its id: whoever issued a token."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a token in an organization is good for."""

    tenant: Tenant
    """Where it takes effect."""
    org_id: str
    org_name: str
    permissions: Sequence[str]
    version: str
    """Of the membership: a token with another one is stale."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further claims."""


class Tokens:
    """Issues and verifies access tokens."""

    def __init__(
        self,
        keys: Keys,
        *,
        issuer: str = "roost",
        lifetime: int = DAY,
        issuers: Issuers | None = None,
        most_verified: int = MOST_VERIFIED,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`lifetime` in seconds; `issuers` finds who else may have issued a token; `clock` tells the seconds since 1970."""
        self._keys = keys
        self._issuers = issuers
        self._issuer = issuer
        self._lifetime = lifetime
        self._most = most_verified
        self._clock = clock
        self._verified: OrderedDict[str, _Verified] = OrderedDict()

    def lifetime(self, tenant: Tenant) -> int:
        """Seconds for which a new token of the tenant is valid."""
        own = tenant.auth.access_token_lifetime
        return self._lifetime if own is None else own

    async def issue(
        self,
        tenant: Tenant,
        user_id: str,
        session: str | None = None,
        scope: Scope | None = None,
        *,
        ends: float | None = None,
    ) -> tuple[str, Payload]:
        """A new token for a user of the tenant, and its claims `{iss, aud, sub, iat, exp, jti, app_id, tid, sid?}`.

        With a `scope` it is one in an organization: short-lived, good to `ends` at most, and with `{org_id, org_name,
        permissions, mv}`.
        """
        key = await self._keys.signing_key(tenant.id)
        now = int(self._clock())
        effective = tenant if scope is None else scope.tenant
        payload: Payload = {
            "iss": self._issuer,
            "aud": audience(effective),
            "sub": user_id,
            "iat": now,
            "exp": now + self.lifetime(tenant),
            "jti": str(uuid.uuid4()),
            "app_id": tenant.id,
            "tid": effective.id,
        }
        if session is not None:
            payload["sid"] = session
        if scope is not None:
            last = now + LONGEST_IN_ORGANIZATION if ends is None else min(now + LONGEST_IN_ORGANIZATION, int(ends))
            payload |= {**scope.more, "org_id": scope.org_id, "org_name": scope.org_name, "mv": scope.version}
            payload["exp"] = min(payload["exp"], last)
            if sum(len(word) + 3 for word in scope.permissions) <= _MOST_WORDS:
                payload["permissions"] = [*scope.permissions]
        token = jwt.encode(payload, key.private, algorithm=ALGORITHM, headers={"kid": key.kid, "typ": TYPE})
        return token, payload

    async def verify(self, tenant: Tenant, token: object) -> Payload:
        """The claims of a token that takes effect in this tenant and is valid now.

        Raises:
            NotAuthenticated: no token, see `read`. Forbidden: it is a good one, and takes effect in another tenant.
        """
        payload = await self.read(tenant, token)
        if effective_tenant(payload) != tenant.id:
            raise mismatch()
        return payload

    async def read(self, tenant: Tenant, token: object) -> Payload:
        """The claims of a token that is valid now, wherever it takes effect; `tenant` is where it is shown.

        Raises:
            NotAuthenticated: it is none. What a forger can vary always gets the same answer, `invalid token`.
        """
        if token is None or token == "":
            raise refusal("jwt must be provided")
        if not isinstance(token, str):
            raise refusal("jwt must be a string")
        known = self._verified.get(token)
        if known is not None:
            issuer_id, kid = known.signer
            if self._keys.ring(issuer_id) is known.ring and await self._keys.serves(issuer_id, kid):
                self._verified.move_to_end(token)
                self._check_time(known.payload)
                return dict(known.payload)
            self._verified.pop(token, None)
        issuer, kid, payload = await self._check_signature(tenant, token)
        self._check_claims(issuer, payload)
        self._check_time(payload)
        self._remember(token, (issuer.id, kid), payload)
        return dict(payload)

    async def is_signed_by_serving_key(self, issuer_id: str, token: str) -> bool:
        """Whether the key of a token that was verified once is still one of its issuer's; all else stays unchecked."""
        return await self._keys.serves(issuer_id, str(_decode(token.partition(".")[0]).get("kid")))

    def _remember(self, token: str, signer: tuple[str, str], payload: Payload) -> None:
        ring = self._keys.ring(signer[0])
        if ring is not None:
            self._verified[token] = _Verified(ring, signer, payload)
            while len(self._verified) > self._most:
                self._verified.popitem(last=False)

    async def _check_signature(self, tenant: Tenant, token: str) -> tuple[Tenant, str, Payload]:
        """The issuer, the key's id and the claims: the key is looked for among those of the issuer that is claimed."""
        if len(token) > LARGEST:
            raise refusal("invalid token")
        parts = token.split(".")
        if len(parts) != 3:
            raise refusal("jwt malformed")
        header = _decode(parts[0])
        # Exactly our three: no key comes inside a token (jku, jwk, x5u, x5c), nothing changes its meaning (crit, b64).
        if header.keys() != _HEADER or header["alg"] != ALGORITHM or header["typ"] != TYPE:
            raise refusal("invalid token")
        if not parts[2]:
            raise refusal("jwt signature is required")
        kid = header["kid"]
        issuer = await self._find_issuer(tenant, parts[1])
        key = await self._keys.verification_key(issuer.id, kid) if issuer and isinstance(kid, str) else None
        if issuer is None or key is None:
            raise refusal("invalid token")
        try:
            payload: Payload = jwt.decode(token, key, algorithms=[ALGORITHM], options=_SIGNATURE_ALONE)
        except jwt.InvalidSignatureError as error:
            raise refusal("invalid signature") from error
        except jwt.InvalidTokenError as error:
            raise refusal("invalid token") from error
        return issuer, kid, payload

    async def _find_issuer(self, tenant: Tenant, claims: str) -> Tenant | None:
        """Who a token says has issued it; who says nothing of use is taken for the tenant's own."""
        try:
            claimed = _decode(claims).get("app_id")
        except NotAuthenticated:
            return tenant
        if not isinstance(claimed, str) or claimed == tenant.id or self._issuers is None:
            return tenant
        try:
            return await self._issuers(claimed)
        except TooManyRequests:
            # Too many names of nobody have been asked for: this one may be one more.
            return None

    def _check_claims(self, issuer: Tenant, payload: Mapping[str, Any]) -> None:
        texts = [payload.get(name) for name in ("iss", "aud", "sub", "jti", "app_id")]
        times = [payload.get("iat"), payload.get("exp"), payload.get("nbf", 0)]
        if not all(isinstance(text, str) and text for text in texts) or not all(map(_is_time, times)):
            raise refusal("invalid token")
        if "sid" in payload and not isinstance(payload["sid"], str):
            raise refusal("invalid token")
        if payload["app_id"] != issuer.id or not _is_scope(payload):
            raise refusal("invalid token")
        tid = effective_tenant(payload)
        if tid != issuer.id and not (issuer.is_control_plane and "org_id" in payload):
            # Whoever has signed it, only the control plane says that its people act elsewhere (TK-1).
            raise refusal("invalid token")
        if payload["aud"] != audience_of(tid):
            raise refusal(f"jwt audience invalid. expected: {audience_of(tid)}")
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
    return audience_of(tenant.id)


def audience_of(tenant_id: str) -> str:
    """Whom tokens are for that take effect in the tenant of this id."""
    return f"urn:roost:tenant:{tenant_id}"


def effective_tenant(payload: Mapping[str, Any]) -> str:
    """The id of the tenant in which a token takes effect."""
    return str(payload.get("tid", payload["app_id"]))


def mismatch() -> Forbidden:
    """The error for a good token of another tenant (TK-2)."""
    return Forbidden("This token is for another app", data={"reason": "TenantMismatch"})


def refusal(message: str, name: str = "JsonWebTokenError", **data: str) -> NotAuthenticated:
    """The error for a token that is not accepted, in the words that Feathers clients know."""
    return NotAuthenticated(message, data={"name": name, **data})


def _decode(part: str) -> dict[str, Any]:
    try:
        header = json.loads(base64url_decode(part))
    except (ValueError, RecursionError) as error:
        raise refusal("invalid token") from error
    if not isinstance(header, dict):
        raise refusal("invalid token")
    return header


def _is_scope(payload: Mapping[str, Any]) -> bool:
    """Whether the claims about where a token takes effect have the right forms; those of an organization come together."""
    tid, words = payload.get("tid", "-"), payload.get("permissions", [])
    if not isinstance(tid, str) or not tid:
        return False
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        return False
    named = [payload[name] for name in ("org_id", "org_name", "mv") if name in payload]
    return len(named) in (0, 3) and all(isinstance(text, str) and text for text in named)


def _is_time(value: object) -> bool:
    return type(value) is int and 0 <= value <= _LAST_SECOND


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
