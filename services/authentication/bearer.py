"""The jwt strategy: an access token proves who its user is. Whose tokens a tenant takes, `tokens.py` says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hooks.context import Authentication, Params, Record
from hooks.errors import NotAuthenticated
from hooks.scopes import KEY_PREFIX, PRINCIPAL_PREFIX
from hooks.tenant import Tenant
from services.authentication.api_keys import ApiKeys
from services.authentication.directory import Directory
from services.authentication.ledger import Ledger, Session
from services.authentication.principals import Grant, LoggedIn, OwnPrincipals, Principals
from services.authentication.strategy import Proof
from services.authentication.tokens import Issuers, Payload, Tokens, effective_tenant, mismatch, refusal

TRIES = 3
"""How often a grant is looked for that has changed before it could be used."""


class JwtStrategy:
    """Takes `{accessToken}`; the same token goes back, it is not renewed. An API key is its own access token."""

    def __init__(
        self,
        directory: Directory,
        tokens: Tokens,
        ledger: Ledger,
        keys: ApiKeys,
        *,
        principals: Principals | None = None,
        issuers: Issuers | None = None,
    ) -> None:
        self._directory = directory
        self._tokens = tokens
        self._ledger = ledger
        self._keys = keys
        self._principals = principals or OwnPrincipals()
        self._issuers = issuers

    async def authenticate(self, data: Mapping[str, Any], params: Params) -> Proof:
        """Verifies the token and loads its user.

        Raises:
            NotAuthenticated: there is no token, it is not valid here and now, or its user or session is gone.
            Forbidden: it is good, but not in this tenant.
        """
        token = data.get("accessToken")
        if not token:
            raise NotAuthenticated("No access token")
        found = await self.verify(token, params)
        return Proof(found.user, found.login, principal=found.principal)

    async def verify(self, token: object, params: Params, *, live: bool = False) -> LoggedIn:
        """The login that a token stands for, inside the tenant of `params`, and its user.

        That of a `live` connection holds as long as the membership does, whatever that allows by now.

        Raises:
            NotAuthenticated: the token is not valid here and now, or its user or session is gone.
            Forbidden: it is good, but not in this tenant.
        """
        tenant = params.tenant
        if isinstance(token, str) and token.startswith(KEY_PREFIX):
            login, principal = await self._keys.verify(tenant, token)
            return LoggedIn(login, principal, principal)
        payload = await self._tokens.read(tenant, token)
        issuer = await self.issuer(tenant, payload)
        if effective_tenant(payload) != tenant.id and not (issuer.is_control_plane and "org_id" not in payload):
            raise mismatch()
        claims = {name: value for name, value in payload.items() if not (live and name == "mv")}
        for _ in range(TRIES):
            grant: Grant = await self._principals.grant(tenant, issuer, claims)
            session = await self._ledger.find_one(issuer, payload)
            # The user last: a live connection hears of what changes from its login on, so nothing may wait in between.
            user = await self.user_of(issuer, payload, session)
            if not grant.is_stale:
                break
        return LoggedIn(Authentication("jwt", str(token), payload), user, grant.principal(user))

    async def issuer(self, tenant: Tenant, payload: Mapping[str, Any]) -> Tenant:
        """The tenant that has issued a token that was read here."""
        if payload["app_id"] == tenant.id or self._issuers is None:
            return tenant
        issuer = await self._issuers(payload["app_id"])
        if issuer is None:
            raise refusal("invalid token")
        return issuer

    async def user_of(self, issuer: Tenant, payload: Payload, session: Session | None) -> Record:
        """The user of a token as he is shown his own record, or the API key that has got it.

        Raises:
            NotAuthenticated: he or it is gone, or the session has ended.
        """
        sub = payload["sub"]
        if sub.startswith(PRINCIPAL_PREFIX):
            if "org_id" not in payload or await self._keys.find_one(issuer, sub) is None:
                raise refusal("invalid token")
            return {"_id": sub}
        user = await self._directory.load(Params(tenant=issuer), sub)
        if user is None:
            raise NotAuthenticated("The user of this access token does not exist any more")
        whole, shown = user
        self._ledger.check(issuer, payload, session, whole)
        return shown
