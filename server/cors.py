"""CORS and the check of origins: which pages may call an app, and read its answers.

It is a guard for people with browsers alone: anybody else sends what Origin he likes.
"""

from __future__ import annotations

from aiohttp import web

from hooks.errors import Forbidden
from hooks.tenant import Tenant
from server.engine import Request
from server.handshake import HEADER, KEY_HEADER
from services.origins import allows

VARY = {"Vary": f"Origin, Authorization, X-Api-Key, {HEADER}, {KEY_HEADER}"}
"""What answers depend on: the page, the caller, and the app, which a cache on the way has to tell apart."""
PRIVATE = "private, no-cache"
"""Answers of services are for their caller alone, and never reused unasked."""
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST, PUT, PATCH, DELETE, HEAD",
    "Access-Control-Allow-Headers": (
        f"authorization, content-type, accept, {HEADER}, {KEY_HEADER}, x-api-key, x-service-method"
    ),
    "Access-Control-Max-Age": "600",
}


def origins_of(request: Request) -> list[str]:
    """The origins that a request comes from: one for a browser's, and none for others."""
    origins: list[str] = request.headers.getall("Origin", [])
    return origins


def check_origin(tenant: Tenant, origins: list[str]) -> None:
    """Refuses a browser page that the tenant has not listed; requests without an Origin are no browser's.

    Raises:
        Forbidden: the origin is not allowed, or more than one is given.
    """
    if origins and (len(origins) > 1 or not allows(tenant.allowed_origins, origins[0])):
        data = {"reason": "OriginNotAllowed"}
        raise Forbidden(f"The origin '{origins[0][:100]}' is not allowed for the app '{tenant.id}'", data=data)


def check_stranger(tenant: Tenant, origins: list[str], *, is_verified: bool) -> None:
    """Where the tenant asks for an Origin, refuses who has neither one nor a verified token.

    Raises:
        Forbidden: that is so.
    """
    if tenant.require_origin and not origins and not is_verified:
        data = {"reason": "OriginNotAllowed"}
        raise Forbidden(f"The app '{tenant.id}' takes requests without an Origin with a valid token only", data=data)


def readable(origins: list[str]) -> dict[str, str]:
    """The headers that let a page of an allowed origin read an answer."""
    return {"Access-Control-Allow-Origin": origins[0], **VARY} if origins else VARY


def preflight(tenant: Tenant | None, origins: list[str]) -> web.Response:
    """The answer to a preflight: yes to a page of the app, nothing where it cannot be told which app is meant.

    Raises:
        Forbidden: the origin is not allowed.
    """
    if tenant is None or not origins:
        return web.Response(status=204, headers=VARY)
    check_origin(tenant, origins)
    return web.Response(status=204, headers={**readable(origins), **PREFLIGHT})
