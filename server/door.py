"""The door: what is asked of every HTTP request before any handler, and of a socket's handshake before the engine."""

from __future__ import annotations

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from hooks.errors import FeathersError, to_feathers_error
from hooks.tenant import Tenant
from server import wire
from server.cors import VARY, check_origin, origins_of, preflight, readable
from server.engine import Request
from server.hosts import Hosts
from server.resolver import Resolver

log = structlog.get_logger()

PROBES = frozenset({"/health", "/ready", "/metrics"})
"""They are asked by address."""


class Door:
    """An aiohttp middleware. The engine's own check of origins would be synchronous and answer 400."""

    def __init__(self, hosts: Hosts, resolver: Resolver) -> None:
        self._hosts = hosts
        self._resolver = resolver

    def middleware(self, sockets: str) -> Middleware:
        """What an application is given whose engine is served under `sockets`."""

        @web.middleware
        async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._admit(request, handler, is_socket=request.path.startswith(f"/{sockets}/"))

        return admit

    def is_open(self, request: Request) -> bool:
        """Whether nothing more is to be asked of a handshake: no host says anything, and a page is one of its tenant's.

        The tenant may have changed since it was last seen: the handshake itself looks at both again.
        """
        if self._hosts.say_something:
            return False
        origins = origins_of(request)
        if not origins:
            return True
        tenant = self._resolver.peek(request)
        if tenant is None:
            return False
        try:
            check_origin(tenant, origins)
        except FeathersError:
            return False
        return True

    async def _admit(self, request: web.Request, handler: Handler, *, is_socket: bool) -> web.StreamResponse:
        if request.path in PROBES:
            return await handler(request)
        try:
            if self._hosts.say_something:
                await self._hosts.meant(request)
            if not is_socket:
                return await handler(request)
            return await self._admit_socket(request, handler)
        except FeathersError as error:
            return _refusal(error)
        except web.HTTPException:
            raise
        except Exception as error:
            log.exception("request failed", method=request.method)
            return _refusal(to_feathers_error(error))

    async def _admit_socket(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """A page that may not connect gets no further; whoever names no app that there is hears so from the handshake."""
        origins = origins_of(request)
        if not origins:
            return await handler(request)
        tenant = await self._tenant(request)
        if request.method == "OPTIONS":
            return preflight(tenant, origins)
        if tenant is None:
            return await handler(request)
        check_origin(tenant, origins)
        response = await handler(request)
        if not response.prepared:
            response.headers.update(readable(origins))
        return response

    async def _tenant(self, request: web.Request) -> Tenant | None:
        try:
            return await self._resolver.look(request)
        except FeathersError:
            return None


def _refusal(error: FeathersError) -> web.Response:
    body = wire.encode(error.to_json())
    return web.Response(body=body, status=error.code, content_type="application/json", headers=VARY)
