"""Which tenant is meant: from the handshake's `appId`, or a request's `x-app-id`, with the origin checked before all else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from multidict import MultiMapping

from hooks.errors import BadRequest, Forbidden, NotFound
from hooks.scopes import KEY_PREFIX
from hooks.tenant import Tenant
from services.control.catalogue import Catalogue

APP_ID = "appId"
HEADER = "x-app-id"
API_KEY = "X-Api-Key"


async def resolve(catalogue: Catalogue, app_id: str) -> Tenant:
    """The tenant with this id, if it is being served.

    Raises:
        NotFound: there is no such app. Forbidden: it is not ready, with the state in `data`.
        Unavailable: the database cannot be asked.
    """
    tenant = await catalogue.get(app_id)
    if tenant is None:
        raise NotFound(f"Unknown app '{app_id[:64]}': check the appId")
    if tenant.status != "ready":
        data = {"reason": "TenantUnavailable", "state": tenant.status}
        raise Forbidden(f"The app '{tenant.id}' is not available", data=data)
    return tenant


def named_app(query: MultiMapping[str], headers: MultiMapping[str], auth: Any = None) -> str:
    """The app that a handshake or request names; several namings must agree.

    Raises:
        BadRequest: none, or different ones, or one twice.
    """
    named = [*query.getall(APP_ID, []), *headers.getall(HEADER, [])]
    if len(query.getall(APP_ID, [])) > 1:
        raise BadRequest(f"{APP_ID} is given twice")
    if isinstance(auth, Mapping) and APP_ID in auth:
        named.append(auth[APP_ID])
    if not named or not all(isinstance(name, str) for name in named) or "" in named:
        raise BadRequest(f"No app is named: pass {APP_ID} in the handshake query, or the header {HEADER}")
    if len(set(named)) > 1:
        raise BadRequest("Different apps are named in one request")
    return str(named[0])


def check_origin(tenant: Tenant, origins: list[str]) -> None:
    """Refuses a browser page that the tenant has not listed; requests without an Origin are no browser's.

    Raises:
        Forbidden: the origin is not allowed, or more than one is given.
    """
    if origins and (len(origins) > 1 or origins[0] not in tenant.allowed_origins):
        data = {"reason": "OriginNotAllowed"}
        raise Forbidden(f"The origin '{origins[0][:100]}' is not allowed for the app '{tenant.id}'", data=data)


def credential(headers: MultiMapping[str]) -> str | None:
    """What a request brings to prove who calls: the API key of `X-Api-Key`, else the token or key of `Authorization`."""
    key = headers.get(API_KEY)
    if key is None:
        return bearer(headers.get("Authorization"))
    # What is no key must be refused as one, and never be taken for a token.
    return key if key.startswith(KEY_PREFIX) else KEY_PREFIX


def bearer(header: str | None) -> str | None:
    """The token of an Authorization header: `Bearer`, `JWT` or `ApiKey` in any case, or bare; other schemes are none."""
    if not header:
        return None
    scheme, _, rest = header.strip().partition(" ")
    named = scheme.lower() in ("bearer", "jwt", "apikey")
    if rest:
        return rest.strip() if named else None
    return None if named else scheme or None
