"""The HTTP side's own bounds: how many connections there are, and how long a request may take to arrive."""

from __future__ import annotations

import asyncio
from typing import Any, Final, cast

from aiohttp import web

from server.engine import log
from server.engine.entrance import Door, Entrance
from server.engine.options import Options

DOOR: Final = web.AppKey[Door]("door")
"""Under which an application names who looks at the first bytes of its connections."""


class Listener(web.AppRunner):
    """Runs an application as `web.AppRunner` does, with bounds.

    A connection is cut when its first request's header is not there after `handshake_timeout`, or a request's body
    after `message_timeout`; beyond `max_connections` HTTP connections, further ones are cut at once.
    """

    def __init__(self, app: web.Application, options: Options | None = None, **kwargs: Any) -> None:
        self.options = options or Options()
        kwargs.setdefault("access_log", None)
        kwargs.setdefault("logger", log.http_logger)
        kwargs.setdefault("keepalive_timeout", self.options.keepalive_timeout)
        super().__init__(app, **kwargs)

    async def stop_accepting(self) -> None:
        """Closes the listening sockets; open connections stay."""
        for site in [*self.sites]:
            await site.stop()

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(made, self.options, self.app.get(DOOR))


class _Server(web.Server):
    def __init__(self, made: web.Server, options: Options, door: Door | None) -> None:
        super().__init__(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            loop=made._loop,
            **made._kwargs,
        )
        self.options = options
        self.open = 0
        """HTTP connections; those that became websockets are not counted."""
        self._door = door
        self._entering: set[Entrance] = set()
        self._make = self.request_factory
        self.request_factory = self._make_watched

    def __call__(self) -> asyncio.Protocol:  # type: ignore[override]
        return Entrance(self, self._door)

    def pre_shutdown(self) -> None:
        for entrance in self._entering:
            entrance.transport.close()
        super().pre_shutdown()

    # As a hall.

    def enter(self, entrance: Entrance) -> bool:
        self.open += 1
        self._entering.add(entrance)
        return self.open <= self.options.max_connections

    def watch(self, transport: asyncio.Transport) -> asyncio.TimerHandle:
        return self._loop.call_later(self.options.handshake_timeout, transport.abort)

    def leave(self, entrance: Entrance) -> None:
        self.open -= 1
        self._entering.discard(entrance)

    def answer(self, entrance: Entrance, data: bytes) -> None:
        self._entering.discard(entrance)
        handler = _Connection(self, entrance.deadline, loop=self._loop, **self._kwargs)
        entrance.transport.set_protocol(handler)
        handler.connection_made(entrance.transport)
        handler.data_received(data)

    def _make_watched(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        cast("_Connection", protocol).expect_body(payload)
        return self._make(message, payload, protocol, writer, task)


class _Connection(web.RequestHandler):
    __slots__ = ("_deadline", "_server")

    def __init__(self, server: _Server, deadline: asyncio.TimerHandle | None, **kwargs: Any) -> None:
        """`deadline` cuts the connection unless a header comes before."""
        super().__init__(server, **kwargs)
        self._server: _Server | None = server
        self._deadline = deadline

    def connection_lost(self, exc: BaseException | None) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.open -= 1
            self._stop_deadline()
        super().connection_lost(exc)

    def expect_body(self, payload: Any) -> None:
        """A header is there."""
        self._stop_deadline()
        if self._server is not None and not payload.is_eof():
            self._deadline = self._loop.call_later(self._server.options.message_timeout, self._cut, payload)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _cut(self, payload: Any) -> None:
        self._deadline = None
        if self.transport is not None and not payload.is_eof():
            self.transport.abort()
