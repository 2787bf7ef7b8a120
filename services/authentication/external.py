"""The external strategy: a token of the identity provider that the tenant trusts proves who somebody is."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from hooks.context import Params
from hooks.errors import NotAuthenticated
from hooks.tenant import ExternalSettings, Tenant
from services.authentication.foreign import check_times, is_subject, open_token, refusal
from services.authentication.identities import Identities
from services.authentication.keysets import KeySet, KeySets, VerificationKey, parse
from services.authentication.strategy import Proof


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
        claims = await open_token(token, lambda kid: self._key(tenant, settings, kid))
        check_times(claims, self._clock())
        audience = claims.get("aud")
        meant = audience if isinstance(audience, list) else [audience]
        right = (
            claims.get("iss") == settings.issuer
            and settings.audience in meant
            and claims.get(settings.tenant_claim) == settings.tenant_value
            and is_subject(claims.get("sub"))
        )
        if not right:
            raise refusal()
        return claims

    async def _key(self, tenant: Tenant, settings: ExternalSettings, kid: str) -> VerificationKey | None:
        if settings.jwks is None:
            return await self._key_sets.find(settings.jwks_url or "", kid)
        kept = self._inline.get(tenant.id)
        if kept is None or kept[0] is not settings:
            kept = self._inline[tenant.id] = (settings, parse(settings.jwks))
            while len(self._inline) > 1_000:
                self._inline.popitem(last=False)
        return kept[1].get(kid)
