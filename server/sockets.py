"""Socket.IO -> Application.call: handshakes become connections, packets become calls, and every call is answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog

from hooks.context import UNSET
from hooks.errors import (
    BadRequest,
    FeathersError,
    MethodNotAllowed,
    NotAuthenticated,
    NotFound,
    TooManyRequests,
    to_feathers_error,
)
from hooks.operations import is_operation
from hooks.tenant import tenant_scope
from server import logs, wire
from server.addresses import Addresses
from server.connection import Connection
from server.connections import Connections
from server.cors import check_origin, check_stranger, origins_of
from server.engine import Refused, Request, Socket
from server.handshake import bearer
from server.occupancy import Occupancy
from server.resolver import Resolver
from services.application import Application, answer
from services.authentication.principals import LoggedIn
from services.authentication.service import AuthenticationService
from services.limits.rates import Rates

log = structlog.get_logger()

SHAPES = {
    "find": (),
    "get": ("id",),
    "create": ("data",),
    "update": ("id", "data"),
    "patch": ("id", "data"),
    "remove": ("id",),
}
"""What stands between the path and the query in a method's arguments."""
CUSTOM = ("data",)
MAX_METHOD = 64

_KEPT_HEADERS = frozenset({"user-agent", "accept-language", "origin", "x-forwarded-for", "host"})


class Sockets:
    """The engine's handlers."""

    def __init__(
        self,
        app: Application,
        resolver: Resolver,
        connections: Connections,
        authentication: AuthenticationService,
        addresses: Addresses,
        *,
        rates: Rates,
        occupancy: Occupancy,
    ) -> None:
        self._app = app
        self._resolver = resolver
        self._connections = connections
        self._authentication = authentication
        self._addresses = addresses
        self._rates = rates
        self._occupancy = occupancy

    async def connect(self, socket: Socket, request: Request, auth: Any) -> None:
        """Accepts a socket for the tenant that it names, logged in if it brings a valid token.

        Raises:
            Refused: with the error's sentence, and its wire form as data.
        """
        connection: Connection | None = None
        try:
            token = bearer(request.headers.get("Authorization"))
            tenant = await self._resolver.find(request, auth=auth, token=token)
            origins = origins_of(request)
            check_origin(tenant, origins)
            headers = {name: request.headers[name] for name in _KEPT_HEADERS if name in request.headers}
            connection = Connection(socket, tenant, headers, self._addresses.of(request))
            wait = self._rates.admit(tenant, {"connect": 1}, [("tenant", ""), ("address", connection.address)])
            if wait is not None:
                await wait
            with tenant_scope(tenant):
                login = await self._login(connection, token)
            check_stranger(tenant, origins, is_verified=login is not None)
            if await self._occupancy.enter(connection) and login is not None:
                # Whoever ended the login while a slot was asked for has not met this connection.
                with tenant_scope(tenant):
                    login = await self._login(connection, token)
                check_stranger(tenant, origins, is_verified=login is not None)
            # Who looks for connections of a tenant that was switched off meanwhile does not find this one yet.
            connection.tenant = tenant = self._resolver.current(tenant)
        except BaseException as error:
            if connection is not None:
                self._occupancy.leave(connection)
            if not isinstance(error, Exception):
                raise
            if not isinstance(error, FeathersError):
                log.exception("handshake failed")
            refusal = to_feathers_error(error)
            raise Refused(refusal.message, refusal.to_json()) from error
        socket.connection = connection
        socket.gate = self._connections.gate(tenant.id)
        # From here to the return nothing waits: no event can reach the socket before its acceptance does.
        self._connections.add(connection)
        if login is not None:
            await self._connections.login(connection, login.login, login.principal, tenant)
        self._app.happen("connection", connection)

    async def _login(self, connection: Connection, token: str | None) -> LoggedIn | None:
        """The handshake token's login. An expired one makes a stranger: a refusal would lock its client out for good."""
        if token is None:
            return None
        try:
            return await self._authentication.verify(connection.params({}), token)
        except NotAuthenticated as error:
            if isinstance(error.data, dict) and error.data.get("name") == "JsonWebTokenError":
                raise
            return None

    def disconnect(self, socket: Socket, reason: str) -> None:
        """Forgets the connection."""
        self._connections.remove(socket.connection)
        self._occupancy.leave(socket.connection)
        self._app.happen("disconnect", socket.connection)

    async def call(self, socket: Socket, name: str, arguments: Sequence[Any]) -> tuple[Any, ...]:
        """Answers a call: `(None, result)` or `(error,)`."""
        connection: Connection = socket.connection
        call_token = logs.call_id.set(logs.next_call_id())
        caller_token = logs.caller.set(connection)
        try:
            with tenant_scope(connection.tenant):
                try:
                    return None, await self._run(connection, name, arguments)
                except FeathersError as error:
                    if isinstance(error, TooManyRequests):
                        self._connections.note_refusal(connection)
                    return (error.to_json(),)
                except Exception as error:
                    log.exception("call failed", method=name[:MAX_METHOD])
                    return (to_feathers_error(error).to_json(),)
        finally:
            logs.caller.reset(caller_token)
            logs.call_id.reset(call_token)

    async def _run(self, connection: Connection, method: str, arguments: Sequence[Any]) -> Any:
        shape = SHAPES.get(method, CUSTOM)
        if not arguments or not isinstance(arguments[0], str):
            raise NotFound("Invalid service path")
        if len(arguments) > len(shape) + 2:
            raise BadRequest(f"Too many arguments for '{method[:MAX_METHOD]}' method")
        if len(method) > MAX_METHOD:
            raise MethodNotAllowed(f"Method '{method[:MAX_METHOD]}' is too long")
        if "id" in shape and len(arguments) == 1:
            # Not the null that means all records: a call that forgot its id must not remove everything.
            raise BadRequest("Invalid id 'undefined'")
        values = dict(zip(shape, arguments[1:], strict=False))
        query = arguments[len(shape) + 1] if len(arguments) > len(shape) + 1 else None
        if query is None:
            query = {}
        elif not isinstance(query, dict):
            raise BadRequest("The query must be an object")
        wire.check(values.get("id"))
        wire.check(query)
        data = values.get("data")
        if method == "patch" and is_operation(data):
            wire.check_data(data, self._app.update_operators(connection.tenant, arguments[0]))
        else:
            wire.check_data(data)
        params = connection.params(query)
        context = await self._app.call(arguments[0], method, params, id=values.get("id"), data=data)
        result = answer(context)
        return None if result is UNSET else result
