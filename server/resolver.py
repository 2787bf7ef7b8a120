"""Which app a request is about: the one place where names that clients send become a tenant.

A host, an appId, a public key: each only names an app, and all that are given must name the same. A valid token decides: one
of another app is refused, and where nothing else is named, its app is meant.
"""

from __future__ import annotations

import json
from typing import Any

from jwt.utils import base64url_decode
from multidict import MultiDict, MultiMapping

from hooks.context import HookContext
from hooks.errors import BadRequest, FeathersError, NotAuthenticated, NotFound
from hooks.tenant import Tenant
from server.addresses import Addresses
from server.engine import Request
from server.handshake import TENANT, Named, check_serving, named
from server.hosts import Hosts, Meant
from services.authentication.tokens import LARGEST, Tokens, effective_tenant, mismatch
from services.control.catalogue import Catalogue
from services.control.public_keys import PUBLIC_KEY

Names = MultiMapping[str]

_UNNAMED = (
    "No app is named: pass appId in the handshake query, the header x-app-id, "
    "or the app's public key as tenant or X-Tenant-ID"
)


class Resolver:
    """Finds the tenant of requests and handshakes."""

    def __init__(
        self, catalogue: Catalogue, hosts: Hosts, addresses: Addresses, tokens: Tokens, *, control_plane: str
    ) -> None:
        self._catalogue = catalogue
        self._hosts = hosts
        self._addresses = addresses
        self._tokens = tokens
        self._control_plane = control_plane

    async def find(
        self, request: Request, *, query: Names | None = None, auth: Any = None, token: str | None = None
    ) -> Tenant:
        """The tenant that is meant, if it is being served.

        Args:
            query: Where the names are that the request's query would have.
            auth: What the client of a socket sent along with CONNECT.
            token: What the client brings to prove who it is; it is verified only as far as is told here.

        Raises:
            BadRequest: no app, or different ones are named. NotFound: there is none of this name.
            Forbidden: it is not served, with the reason in `data`; or the token is another app's.
            TooManyRequests, Unavailable: it cannot be told at the moment.
        """
        tenant = await self.look(request, query=query, auth=auth, token=token)
        if tenant is None:
            raise BadRequest(_UNNAMED)
        check_serving(tenant)
        if token is not None:
            await self.check_token(tenant, token)
        return tenant

    async def look(
        self, request: Request, *, query: Names | None = None, auth: Any = None, token: str | None = None
    ) -> Tenant | None:
        """As `find`, whether or not the tenant is served; None when nothing names one."""
        meant = await self._hosts.meant(request)
        given = named(request.query if query is None else query, request.headers, auth)
        address = self._addresses.of(request)
        found = [await self._named(given, address)] if given.is_given else []
        if meant is not None and meant.tenant is not None:
            found.append(meant.tenant)
        if len({tenant.id for tenant in found}) > 1:
            raise BadRequest("Different apps are named in one request")
        return found[0] if found else await self._unnamed(meant, token, address)

    def current(self, tenant: Tenant) -> Tenant:
        """The tenant as it is by now, for one that was found a while ago.

        Raises:
            Forbidden: it is not served any more.
        """
        newest = self._catalogue.peek(tenant.id) or tenant
        check_serving(newest)
        return newest

    def peek(self, request: Request) -> Tenant | None:
        """The tenant that a request names by its id alone, as last seen; None where it takes more to tell."""
        try:
            given = named(request.query, request.headers)
        except FeathersError:
            return None
        return None if given.app_id is None or given.key is not None else self._catalogue.peek(given.app_id)

    async def check_token(self, tenant: Tenant, token: str) -> None:
        """Refuses a valid token of another tenant; what is no valid token anywhere is left to those who log in.

        Raises:
            Forbidden: with the reason `TenantMismatch`.
        """
        try:
            claims = await self._tokens.read(tenant, token)
        except NotAuthenticated:
            return
        if effective_tenant(claims) == tenant.id:
            return
        # What managers of the control plane may do in other tenants is known when they are logged in, and not before.
        if claims["app_id"] != self._control_plane or "org_id" in claims:
            raise mismatch()

    async def check_login(self, context: HookContext) -> None:
        """Before the authentication service's `create`: an access token that is shown must be of the same tenant."""
        token = context.data.get("accessToken") if isinstance(context.data, dict) else None
        if isinstance(token, str) and context.params.provider is not None:
            await self.check_token(context.tenant, token)

    async def _named(self, given: Named, address: str) -> Tenant:
        found = []
        if given.app_id is not None:
            tenant = await self._catalogue.get(given.app_id, address=address)
            if tenant is None:
                raise NotFound(f"Unknown app '{given.app_id[:64]}': check the appId")
            found.append(tenant)
        if given.key is not None:
            tenant = await self._catalogue.by_public_key(given.key, address=address)
            if tenant is None:
                raise NotFound(f"Unknown app '{given.key[:64]}': check the public key")
            found.append(tenant)
        if len({tenant.id for tenant in found}) > 1:
            raise BadRequest("Different apps are named in one request")
        return found[0]

    async def _unnamed(self, meant: Meant | None, token: str | None, address: str) -> Tenant | None:
        """The tenant of a valid token; else the control plane, at its own host."""
        issuer = None if token is None else _text(_claims(token), "app_id")
        if token is not None and issuer is not None:
            tenant = await self._catalogue.get(issuer, address=address)
            if tenant is not None and await self._is_valid(tenant, token):
                effective = _text(_claims(token), "tid") or issuer
                return tenant if effective == issuer else await self._catalogue.get(effective, address=address)
        return await self._catalogue.get(self._control_plane) if meant is not None else None

    async def _is_valid(self, tenant: Tenant, token: str) -> bool:
        try:
            await self._tokens.read(tenant, token)
        except NotAuthenticated:
            return False
        return True


def public_keys(request: Request) -> Names:
    """The names in a query that is a service's: public keys alone, what else is called `tenant` there is a field."""
    values = request.query.getall(TENANT, [])
    return MultiDict((TENANT, value) for value in values if PUBLIC_KEY.fullmatch(value))


def _claims(token: str) -> dict[str, Any]:
    """What a token says of itself, unverified."""
    parts = token.split(".")
    if len(parts) != 3 or len(token) > LARGEST:
        return {}
    try:
        claims = json.loads(base64url_decode(parts[1]))
    except (ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _text(claims: dict[str, Any], name: str) -> str | None:
    value = claims.get(name)
    return value if isinstance(value, str) and value else None
