"""The public signing keys of a tenant, for those who verify its tokens."""

from __future__ import annotations

from aiohttp import web

from hooks.errors import FeathersError
from server import wire
from server.resolver import Resolver
from services.authentication.keys import Keys


class Jwks:
    """`/.well-known/jwks.json?appId=...`"""

    def __init__(self, resolver: Resolver, keys: Keys) -> None:
        self._resolver = resolver
        self._keys = keys

    async def handle(self, request: web.Request) -> web.Response:
        """`{keys: [JWK, ...]}`, public halves only; readable from everywhere."""
        try:
            tenant = await self._resolver.find(request)
            body, status = await self._keys.jwks(tenant.id), 200
        except FeathersError as error:
            body, status = error.to_json(), error.code
        headers = {"Access-Control-Allow-Origin": "*", "Cache-Control": "public, max-age=60"}
        return web.Response(body=wire.encode(body), content_type="application/json", status=status, headers=headers)
