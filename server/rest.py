"""HTTP -> Application.call: the same services over REST, the tenant named by headers, host, or a public key in the query."""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import unquote

import structlog
from aiohttp import web

from hooks.context import UNSET, HookContext, Params
from hooks.errors import (
    BadRequest,
    FeathersError,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    to_feathers_error,
)
from hooks.rules import rule_for
from hooks.scopes import LOGIN
from hooks.tenant import Tenant, tenant_scope
from server import logs, querystring, wire
from server.addresses import Addresses
from server.connections import Connections
from server.cors import PRIVATE, VARY, check_origin, check_stranger, origins_of, preflight, readable
from server.handshake import TENANT, credential
from server.resolver import Resolver, public_keys
from services.application import Application, answer
from services.base import STANDARD_METHODS
from services.control.public_keys import PUBLIC_KEY
from services.registration import Registration

log = structlog.get_logger()

MAX_BODY = 1_000_000
"""Bytes of a request's body, as of a socket's message."""
SERVICE_METHOD = "X-Service-Method"
_VERBS = {
    "GET": ("find", "get"),
    "HEAD": ("find", "get"),
    "PUT": ("update",),
    "PATCH": ("patch",),
    "DELETE": ("remove",),
}


class Rest:
    """One handler for all paths that no page or probe has taken."""

    def __init__(self, app: Application, resolver: Resolver, connections: Connections, addresses: Addresses) -> None:
        self._app = app
        self._resolver = resolver
        self._connections = connections
        self._addresses = addresses

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answers a request with the call's result, or with the error's JSON under its own status."""
        call_token = logs.call_id.set(logs.next_call_id())
        cors = VARY
        tenant: Tenant | None = None
        try:
            if request.method == "OPTIONS":
                tenant = await self._resolver.look(request, query=public_keys(request))
                return self._preflight(request, tenant)
            token = credential(request.headers)
            tenant = await self._resolver.find(request, query=public_keys(request), token=token)
            origins = origins_of(request)
            check_origin(tenant, origins)
            cors = readable(origins)
            response = await self._run(request, tenant, token)
        except FeathersError as error:
            response = _error(error)
            if response.status == 405:
                response.headers["Allow"] = ", ".join(self._verbs(request, tenant))
        except Exception as error:
            log.exception("request failed", method=request.method)
            response = _error(to_feathers_error(error))
        finally:
            logs.call_id.reset(call_token)
        response.headers.update(cors)
        response.headers.setdefault("Cache-Control", PRIVATE)
        return response

    def _preflight(self, request: web.Request, tenant: Tenant | None) -> web.Response:
        """A preflight carries no headers: the app is named by the host, or by its public key in the query, or not at all."""
        if "Access-Control-Request-Method" not in request.headers:
            raise MethodNotAllowed("Method 'OPTIONS' is only for CORS preflight requests")
        return preflight(tenant, origins_of(request))

    async def _run(self, request: web.Request, tenant: Tenant, token: str | None) -> web.Response:
        """The call in the scope of its tenant, where what is logged bears its name."""
        with tenant_scope(tenant):
            try:
                return await self._call(request, tenant, token)
            except FeathersError:
                raise
            except Exception as error:
                log.exception("request failed", method=request.method)
                raise to_feathers_error(error) from error

    async def _call(self, request: web.Request, tenant: Tenant, token: str | None) -> web.Response:
        service, path, id = self._target(request, tenant)
        query = querystring.parse(request.rel_url.raw_query_string)
        if _is_public_key(query.get(TENANT)):
            del query[TENANT]
        method = _method(request, id)
        if method not in service.methods:
            raise _unsupported(method)
        data = await _body(request) if method not in ("find", "get", "remove") else None
        wire.check(query)
        wire.check_data(data, service.updates if method == "patch" else ())
        params = Params(
            tenant=tenant,
            query=query,
            provider="rest",
            address=self._addresses.of(request),
            headers={name.lower(): value for name, value in request.headers.items()},
            token=token,
        )
        if tenant.require_origin and not origins_of(request):
            if token is not None:
                await self._app.authenticate(params)
            check_stranger(tenant, [], is_verified=params.authenticated)
        logs.caller.set(params)
        async with self._connections.gate(tenant.id):
            # It may have been taken out of service since it was found.
            self._resolver.current(tenant)
            context = await self._app.call(path, method, params, id=id, data=data)
        return _answer(context)

    def _target(self, request: web.Request, tenant: Tenant) -> tuple[Registration, str, str | None]:
        """The service, its path and the record's id; an id is decoded only after the path was taken apart."""
        parts = [unquote(part) for part in request.rel_url.raw_path.split("/") if part]
        path, owner = "/".join(parts), "/".join(parts[:-1])
        try:
            # A slash inside a part can only be an id's own.
            has_id = bool(parts) and "/" in parts[-1]
            service, route = self._app.lookup(tenant, owner if has_id else path)
        except NotFound:
            raise NotFound(f"Path /{path[:100]} not found") from None
        if has_id and "__id" in route:
            raise NotFound(f"Path /{path[:100]} not found")
        return (service, owner, parts[-1]) if has_id or "__id" in route else (service, path, None)

    def _verbs(self, request: web.Request, tenant: Tenant | None) -> list[str]:
        """The verbs that a path offers to somebody, as HTTP wants a 405 to name them."""
        if tenant is None:
            return []
        try:
            service, _, id = self._target(request, tenant)
        except NotFound:
            return []
        offered = {name for name in service.methods if rule_for(service.rules, name) != "nobody"}
        if id is not None:
            offered &= {"get", "update", "patch", "remove"}
        else:
            offered -= {"get", "update"}
            options = getattr(service.service, "options", service.service)
            if service.path != LOGIN:
                offered -= {"patch", "remove"} - frozenset(getattr(options, "multi", ()))
        verbs = [verb for verb, methods in _VERBS.items() if not offered.isdisjoint(methods)]
        return [*verbs, "POST"] if offered - {"find", "get", "update", "patch", "remove"} else verbs


def _method(request: web.Request, id: str | None) -> str:
    if request.method == "POST":
        custom = request.headers.get(SERVICE_METHOD)
        if not custom:
            return "create"
        if custom in STANDARD_METHODS:
            raise _unsupported(custom)
        return custom
    verbs = _VERBS.get(request.method)
    if verbs is None:
        raise MethodNotAllowed(f"Method '{request.method[:16]}' is not supported")
    return verbs[0] if id is None or len(verbs) == 1 else verbs[1]


async def _body(request: web.Request) -> Any:
    try:
        raw = await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise PayloadTooLarge(f"The body is too large: at most {MAX_BODY} bytes are allowed") from error
    try:
        if request.content_type == "application/x-www-form-urlencoded":
            return querystring.parse(raw.decode(), MAX_BODY)
        if request.content_type == "text/plain":
            return raw.decode()
    except UnicodeDecodeError as error:
        raise BadRequest("The body is not UTF-8") from error
    if not raw:
        return None
    try:
        return wire.decode(raw)
    except ValueError as error:
        raise BadRequest("The body is not valid JSON") from error


def _is_public_key(value: Any) -> bool:
    return isinstance(value, str) and PUBLIC_KEY.fullmatch(value) is not None


def _unsupported(method: str) -> MethodNotAllowed:
    return MethodNotAllowed(f"Method `{method[:64]}` is not supported by this endpoint.")


def _answer(context: HookContext) -> web.Response:
    result = answer(context)
    http = context.http
    headers = dict(http.get("headers", {}))
    if "location" in http:
        headers["Location"] = str(http["location"])
    if result is UNSET or not (result or isinstance(result, (list, dict))):
        return web.Response(status=http.get("status", 303 if "location" in http else 204), headers=headers)
    status = http.get("status", 303 if "location" in http else 201 if context.method == "create" else 200)
    if isinstance(result, str):
        return web.Response(status=status, text=result, headers=headers)
    return web.Response(status=status, body=wire.encode(result), content_type="application/json", headers=headers)


def _error(error: FeathersError) -> web.Response:
    wait = error.data.get("retry_after") if isinstance(error.data, dict) else None
    headers = {} if wait is None else {"Retry-After": str(math.ceil(wait))}
    body = wire.encode(error.to_json())
    return web.Response(status=error.code, body=body, content_type="application/json", headers=headers)
