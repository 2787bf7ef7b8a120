"""The oauth strategy: a code of one of the tenant's providers proves who somebody is.

Who that is in the app is decided by the provider's own name for the person alone. An e-mail address finds nobody: whoever
types another's at some provider would be let into the other's account.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

from hooks.context import Caller, Params
from hooks.errors import BadRequest, NotAuthenticated
from hooks.scopes import PRINCIPAL_PREFIX
from hooks.tenant import OAuthSettings, Tenant
from services.authentication.directory import Directory
from services.authentication.identities import Identities
from services.authentication.ledger import Ledger, ended
from services.authentication.providers import Grant, Person, Providers
from services.authentication.strategy import Proof
from services.redirects import choose_target

GRANT = "grant"
"""Where the server itself puts what its own pages have received: a `Grant`, which no client can send."""
LONGEST = 4096
LONGEST_NAME = 100
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")


class Registrations(Protocol):
    """Finds how people sign in by what an app has not declared: `services.control.inheritance.credentials`."""

    async def find(self, tenant: Tenant, name: str) -> OAuthSettings | None:
        """The registration of a name. Raises Unavailable."""
        ...


class OAuthStrategy:
    """Takes `{provider, code, code_verifier, redirect_uri, nonce?, iss?, link?}`.

    With `link: true` the caller's own account can be logged in to by this person from then on.
    """

    def __init__(
        self,
        app: Caller,
        providers: Providers,
        identities: Identities,
        directory: Directory,
        ledger: Ledger,
        *,
        registrations: Registrations | None = None,
    ) -> None:
        self._app = app
        self._registrations = registrations
        self._providers = providers
        self._identities = identities
        self._directory = directory
        self._ledger = ledger

    async def authenticate(self, data: Mapping[str, Any], params: Params) -> Proof:
        """Has the provider say who has given the code, and finds, makes or links the user.

        Raises:
            BadRequest: something is missing. NotAuthenticated: the code proves nothing here. Conflict: the person is
                linked to another account. Unavailable: the provider gives no good answer.
        """
        settings = await self._provider(params, data.get("provider"))
        grant = data.get(GRANT)
        if not isinstance(grant, Grant):
            grant = _grant_of(data, settings)
            if data.get("link") is True:
                await self._app.authenticate(params)
                grant = _linked(grant, params)
        user_id = None if grant.login is None else await self._owner(params, grant.login)
        client = await self._providers.client(params.tenant, settings)
        person = await client.identify(grant)
        if user_id is not None:
            return await self._link(params, person, user_id)
        return Proof(await self._identities.user_of(params, person.issuer, person.subject, person.profile))

    async def _provider(self, params: Params, name: object) -> OAuthSettings:
        found = await registration_of(params.tenant, name, self._registrations) if isinstance(name, str) else None
        if found is None:
            raise NotAuthenticated("Invalid authentication information (the app has no such provider)")
        return found

    async def _link(self, params: Params, person: Person, user_id: str) -> Proof:
        await self._identities.link(params.tenant, person.issuer, person.subject, user_id)
        return Proof({"_id": user_id})

    async def _owner(self, params: Params, login: Mapping[str, Any]) -> str:
        """Whose login it is, if it still lasts.

        Raises:
            NotAuthenticated: it does not, or is no user's.
        """
        user_id = str(login["sub"])
        if user_id.startswith(PRINCIPAL_PREFIX):
            raise NotAuthenticated("Only a user's account can be linked")
        session = await self._ledger.find_one(params.tenant, login)
        user = await self._directory.load(params, user_id)
        if user is None:
            raise ended()
        self._ledger.check(params.tenant, login, session, user[0])
        return user_id


async def registration_of(tenant: Tenant, name: str, registrations: Registrations | None) -> OAuthSettings | None:
    """The tenant's provider of that name: a declared one, or else a connection."""
    declared = tenant.auth.oauth.get(name)
    if declared is not None or registrations is None or len(name) > LONGEST_NAME:
        return declared
    return await registrations.find(tenant, name)


def _grant_of(data: Mapping[str, Any], settings: OAuthSettings) -> Grant:
    code, redirect = _text(data, "code"), _text(data, "redirect_uri")
    verifier = _text(data, "code_verifier")
    if not _VERIFIER.fullmatch(verifier):
        raise BadRequest("The code_verifier must have 43 to 128 letters, digits and . _ ~ -")
    if redirect not in settings.redirects or choose_target(settings.redirects, redirect) != redirect:
        raise BadRequest("The redirect_uri is none that the app has declared")
    nonce = _text(data, "nonce") if "nonce" in data else None
    return Grant(code, verifier, redirect, nonce, _text(data, "iss") if "iss" in data else None)


def _linked(grant: Grant, params: Params) -> Grant:
    assert params.authentication is not None
    return Grant(
        grant.code, grant.verifier, grant.redirect_uri, grant.nonce, grant.issuer, params.authentication.payload
    )


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST or not value.isascii() or not value.isprintable():
        raise BadRequest(f"The {name} must be a text")
    return value
