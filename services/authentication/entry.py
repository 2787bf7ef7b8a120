"""Entry: on what terms a session goes on in an organization or in none, and the access token for it.

Three strategies lead here: `organization` switches, `refresh` renews, `authorization_code` does so for a browser. Each
time membership, tenant and user are looked at anew (TK-7, TK-13).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from hooks.context import Authentication, Params, Record
from hooks.errors import BadRequest, Forbidden, NotAuthenticated
from hooks.tenant import Tenant
from services.authentication.bearer import JwtStrategy
from services.authentication.ledger import Ledger, Session
from services.authentication.principals import Principals
from services.authentication.strategy import Proof
from services.authentication.tokens import Scope, Tokens

LONGEST = 256
"""Characters of an organization's name or id that are looked at."""


class Held(NamedTuple):
    """A session that lasts, and who has it."""

    issuer: Tenant
    session: Session
    user: Record


class Entry:
    """The way into organizations."""

    def __init__(
        self,
        jwt: JwtStrategy,
        tokens: Tokens,
        ledger: Ledger,
        principals: Principals,
        control_plane: Callable[[], Awaitable[Tenant | None]] | None = None,
    ) -> None:
        """`control_plane` tells the one tenant whose people go on in others."""
        self._jwt = jwt
        self._tokens = tokens
        self._ledger = ledger
        self._principals = principals
        self._control_plane = control_plane

    async def held(self, issuer: Tenant, session: Session) -> Held:
        """The session with its user.

        Raises:
            NotAuthenticated: he is gone, or the session has ended.
        """
        payload = {"sub": session.user_id, "sid": session.id, "app_id": issuer.id}
        return Held(issuer, session, await self._jwt.user_of(issuer, payload, session))

    async def of_refresh_token(self, tenant: Tenant, token: str) -> Held | None:
        """Whose refresh token is shown to a tenant, which is not used up: its own, or one of the control plane (TK-1).

        Raises:
            NotAuthenticated: it is no refresh token, or its user is gone.
        """
        issuer, session = tenant, await self._ledger.of_refresh_token(tenant, token)
        if session is None and not tenant.is_control_plane and self._control_plane is not None:
            plane = await self._control_plane()
            if plane is not None:
                issuer, session = plane, await self._ledger.of_refresh_token(plane, token)
        return None if session is None else await self.held(issuer, session)

    async def scope(self, issuer: Tenant, user_id: str, named: str, more: Mapping[str, Any] | None = None) -> Scope:
        """What somebody may do in the organization of this name or id.

        Raises:
            Forbidden: with `data.code` `not_a_member` or `tenant_unavailable`.
        """
        found = await self._principals.enter(issuer, user_id, named)
        if isinstance(found, Forbidden):
            raise found
        return Scope(found.tenant, found.org_id, found.org_name, found.permissions, found.version, more or {})

    async def standing_for(self, held: Held, tenant: Tenant) -> Scope | None:
        """As what somebody of the control plane is in a tenant: in its organization, or None for who manages every one.

        Raises:
            Forbidden: he has nothing to do there.
        """
        found = await self._principals.enter_tenant(held.issuer, held.session.user_id, tenant)
        if isinstance(found, Forbidden):
            try:
                await self.check_manager(held, tenant)
            except Forbidden:
                raise found from None
            return None
        return found

    async def check_manager(self, held: Held, tenant: Tenant) -> None:
        """Passes somebody of the control plane who manages every tenant.

        Raises:
            Forbidden: he does not.
        """
        claims = {"sub": held.session.user_id, "app_id": held.issuer.id}
        (await self._principals.grant(tenant, held.issuer, claims)).principal(held.user)

    async def open(
        self,
        issuer: Tenant,
        user_id: str,
        session: str | None,
        scope: Scope | None,
        *,
        ends: datetime | None,
        at: Tenant,
    ) -> Proof:
        """A login with a new token, which takes effect in the scope's tenant; without a scope, `at` is where it is used."""
        until = None if ends is None else ends.timestamp()
        token, payload = await self._tokens.issue(issuer, user_id, session, scope, ends=until)
        tenant = at if scope is None else scope.tenant
        # As everybody who shows this token: what was found a moment ago may have changed.
        found = await self._jwt.verify(token, Params(tenant=tenant))
        return Proof(found.user, Authentication("jwt", token, payload), principal=found.principal, tenant=tenant)


def named_in(data: Mapping[str, Any]) -> str | None:
    """The organization that a client names, or None where it wants to be in none.

    Raises:
        BadRequest: it names nothing of the kind.
    """
    named = data.get("organization")
    if "organization" not in data or not (named is None or (isinstance(named, str) and 0 < len(named) <= LONGEST)):
        raise BadRequest("The organization is its name or id, or null for none")
    return named


def again() -> Forbidden:
    """The error for a session on which nobody goes anywhere any more."""
    reason = {"reason": "reauthentication_required", "code": "reauthentication_required"}
    return Forbidden("Log in again before you go to an organization", data=reason)


def not_allowed() -> NotAuthenticated:
    """The error for a strategy that an app does not have."""
    return NotAuthenticated("Invalid authentication information (strategy not allowed in authStrategies)")
