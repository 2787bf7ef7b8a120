"""The routes of the documents. They are as public as the services they tell of are known: to all who name the app."""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable

from aiohttp import web

from hooks.errors import FeathersError
from hooks.tenant import Tenant
from server import wire
from server.addresses import Addresses
from server.documents.asyncapi import asyncapi
from server.documents.openapi import openapi
from server.documents.page import POLICY, page, welcome_page
from server.documents.typescript import typescript
from server.handshake import check_serving
from server.resolver import Resolver
from services.application import Application
from services.description import TenantDescription, describe

MOST_KEPT = 256
"""Documents that are kept, ready to be sent; the least recently wanted goes first."""
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?", re.IGNORECASE)

_PLAIN = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
"""Whoever keeps a document asks whether it is still that one: the tag tells."""

Write = Callable[[TenantDescription, web.Request], bytes]


class Documents:
    """`/openapi.json`, `/asyncapi.json`, `/docs` and `/docs/types.d.ts`; the app is named by `?appId=` or the header."""

    def __init__(self, app: Application, resolver: Resolver, addresses: Addresses) -> None:
        self._app = app
        self._resolver = resolver
        self._addresses = addresses
        self._kept: OrderedDict[tuple[str, ...], tuple[Tenant, int, bytes, str]] = OrderedDict()

    def attach(self, web_app: web.Application) -> None:
        """Adds the routes."""
        web_app.router.add_get("/openapi.json", self.openapi)
        web_app.router.add_get("/asyncapi.json", self.asyncapi)
        web_app.router.add_get("/docs/types.d.ts", self.types)
        web_app.router.add_get("/docs", self.page)
        web_app.router.add_get("/docs/", self.page)

    async def openapi(self, request: web.Request) -> web.Response:
        """The services over REST."""
        return await self._answer(request, "application/json", lambda tenant, _: wire.encode(openapi(tenant)))

    async def asyncapi(self, request: web.Request) -> web.Response:
        """The services over Socket.IO, and the events."""
        return await self._answer(
            request,
            "application/json",
            lambda tenant, request: wire.encode(
                asyncapi(tenant, host=_host(request), is_secure=self._scheme(request) == "https")
            ),
        )

    async def types(self, request: web.Request) -> web.Response:
        """The types for clients in TypeScript."""
        return await self._answer(request, "text/plain", lambda tenant, _: typescript(tenant).encode())

    async def page(self, request: web.Request) -> web.Response:
        """All of it for people. Without an app, a page that asks which one is meant."""
        try:
            tenant = await self._resolver.look(request)
            if tenant is None:
                return _page(welcome_page(), 200)
            check_serving(tenant)
        except FeathersError as error:
            return _page(welcome_page(error.message), error.code)
        body, tag = self._document(
            tenant,
            request,
            lambda tenant, request: page(tenant, f"{self._scheme(request)}://{_host(request)}").encode(),
        )
        response = _not_modified(request, tag) or _page(body.decode(), 200)
        response.headers["ETag"] = tag
        return response

    async def _answer(self, request: web.Request, content_type: str, write: Write) -> web.Response:
        try:
            tenant = await self._resolver.find(request)
        except FeathersError as error:
            response = web.Response(
                body=wire.encode(error.to_json()), status=error.code, content_type="application/json"
            )
        else:
            body, tag = self._document(tenant, request, write)
            response = _not_modified(request, tag) or web.Response(
                body=body, content_type=content_type, charset="utf-8"
            )
            response.headers["ETag"] = tag
        response.headers.update({**_PLAIN, "Access-Control-Allow-Origin": "*"})
        return response

    def _scheme(self, request: web.Request) -> str:
        """Whether the client came by TLS, which a trusted proxy may have taken off."""
        forwarded = request.headers.get("X-Forwarded-Proto") if self._addresses.is_by_proxy(request) else None
        return "https" if request.secure or forwarded == "https" else "http"

    def _document(self, tenant: Tenant, request: web.Request, write: Write) -> tuple[bytes, str]:
        """The document, written anew when the tenant or the server's own services have changed."""
        key = (request.path.rstrip("/"), tenant.id, self._scheme(request), _host(request))
        kept = self._kept.get(key)
        if kept is None or kept[0] is not tenant or kept[1] != len(self._app.services):
            body = write(describe(tenant, self._app), request)
            tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
            kept = self._kept[key] = (tenant, len(self._app.services), body, tag)
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return kept[2], kept[3]


def _host(request: web.Request) -> str:
    """The name by which the client reached the server, with its port."""
    return request.host if _HOST.fullmatch(request.host) else "localhost"


def _not_modified(request: web.Request, tag: str) -> web.Response | None:
    known = {part.strip().removeprefix("W/") for part in request.headers.get("If-None-Match", "").split(",")}
    return web.Response(status=304) if tag in known else None


def _page(text: str, status: int) -> web.Response:
    headers = {**_PLAIN, "Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"}
    return web.Response(text=text, content_type="text/html", status=status, headers=headers)
