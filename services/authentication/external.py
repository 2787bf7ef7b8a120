"""The external strategy: a token of the identity provider that the tenant trusts proves who somebody is."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import jwt
from jwt.utils import base64url_decode

from hooks.context import Params
from hooks.errors import NotAuthenticated
from hooks.tenant import ExternalSettings, Tenant
from services.authentication.identities import Identities
from services.authentication.keysets import KeySet, KeySets, VerificationKey, parse
from services.authentication.strategy import Proof

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


class ExternalStrategy:
    """Takes `{token}`, and answers with an access token of our own. The first time, a user without a name is made."""

    def __init__(self, identities: Identities, key_sets: KeySets, *, clock: Callable[[], float] = time.time) -> None:
        self._identities = identities
        self._key_sets = key_sets
        self._clock = clock
        self._inline: OrderedDict[str, tuple[ExternalSettings, KeySet]] = OrderedDict()

    async def authenticate(self, data: Mapping[str, Any], params: Params) -> Proof:
        """Verifies the token and finds or makes its user.

        Raises:
            NotAuthenticated: the tenant trusts nobody, or the token is not valid for it: always in the same words.
            Unavailable: the provider's keys cannot be fetched now.
        """
        settings = params.tenant.auth.external
        if settings is None:
            raise NotAuthenticated("Invalid authentication information (strategy not allowed in authStrategies)")
        claims = await self.verify(params.tenant, settings, data.get("token"))
        return Proof(await self._identities.user_of(params, settings.issuer, claims["sub"]))

    async def verify(self, tenant: Tenant, settings: ExternalSettings, token: object) -> dict[str, Any]:
        """The claims of a token that the tenant's provider has made for it and that is valid now.

        Raises:
            NotAuthenticated: it is not. Unavailable: the provider's keys cannot be fetched now.
        """
        if not isinstance(token, str) or len(token) > LARGEST or token.count(".") != 2:
            raise _refusal()
        header = _decode_header(token.partition(".")[0])
        kid = header.get("kid")
        if not _FORBIDDEN.isdisjoint(header) or not isinstance(kid, str) or not kid:
            raise _refusal()
        key = await self._key(tenant, settings, kid)
        # The key says which algorithm it is for; the token has no choice.
        if key is None or header.get("alg") != key.algorithm:
            raise _refusal()
        try:
            claims: Any = jwt.decode(token, key.key, algorithms=[key.algorithm], options=_SIGNATURE_ALONE)
        except jwt.InvalidTokenError as error:
            raise _refusal() from error
        self._check(settings, claims)
        found: dict[str, Any] = claims
        return found

    async def _key(self, tenant: Tenant, settings: ExternalSettings, kid: str) -> VerificationKey | None:
        if settings.jwks is None:
            return await self._key_sets.find(settings.jwks_url or "", kid)
        kept = self._inline.get(tenant.id)
        if kept is None or kept[0] is not settings:
            kept = self._inline[tenant.id] = (settings, parse(settings.jwks))
            while len(self._inline) > 1_000:
                self._inline.popitem(last=False)
        return kept[1].get(kid)

    def _check(self, settings: ExternalSettings, claims: Mapping[str, Any]) -> None:
        now, audience, subject = self._clock(), claims.get("aud"), claims.get("sub")
        times = [claims.get("exp"), claims.get("iat"), claims.get("nbf", 0)]
        if not all(_is_time(moment) for moment in times):
            raise _refusal()
        meant = audience if isinstance(audience, list) else [audience]
        right = (
            claims.get("iss") == settings.issuer
            and settings.audience in meant
            and claims.get(settings.tenant_claim) == settings.tenant_value
            and isinstance(subject, str)
            and 0 < len(subject) <= LONGEST_SUBJECT
            and subject.isprintable()
        )
        if not right or now >= claims["exp"] or max(claims["iat"], claims.get("nbf", 0)) > now + LEEWAY:
            raise _refusal()


def _decode_header(part: str) -> dict[str, Any]:
    try:
        header = json.loads(base64url_decode(part))
    except (ValueError, RecursionError) as error:
        raise _refusal() from error
    if not isinstance(header, dict):
        raise _refusal()
    return header


def _is_time(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**53


def _refusal() -> NotAuthenticated:
    return NotAuthenticated("invalid token", data={"name": "JsonWebTokenError"})
