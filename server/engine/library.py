"""python-engineio's server: it decides on requests and speaks HTTP; the sessions behind it are ours.

The private names of the libraries that this package needs are listed here, and checked before an engine is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import version
from typing import Any

import engineio  # type: ignore[import-untyped]
import orjson
from aiohttp import web
from engineio import exceptions

from server.engine import log
from server.engine.hub import Hub
from server.engine.polling import Gone, Polling
from server.engine.socket import Socket
from server.engine.takeover import read_handshake, refusal, switch, take_over
from server.engine.upgrade import Upgrade
from server.engine.websocket import WebSocket

VERSIONS = {"python-socketio": "5.18.", "python-engineio": "4.15.", "aiohttp": "3.14."}
"""What this package was written and tested for."""

NAMES = (
    "engineio:AsyncServer._handle_connect",
    "engineio:AsyncServer._ok",
    "engineio:AsyncServer.generate_id",
    "socketio.packet:Packet.decode",
    "aiohttp._websocket.helpers:websocket_mask",
    "aiohttp.base_protocol:BaseProtocol",
    "aiohttp.http:HttpRequestParser.feed_data",
    "aiohttp.streams:EMPTY_PAYLOAD",
    "aiohttp.web:RequestHandler._message_tail",
    "aiohttp.web:RequestHandler._manager",
    "aiohttp.web:RequestHandler._loop",
    "aiohttp.web:AppRunner._make_server",
)


class Unsuitable(Exception):
    """A library under the engine is not the one that the engine was written for."""


def check() -> None:
    """Makes sure that the libraries have the versions and names that the engine needs.

    Raises:
        Unsuitable: with each version or name that is missing.
    """
    faults = [
        f"{name} {version(name)} is installed, {wanted}x is needed"
        for name, wanted in VERSIONS.items()
        if not version(name).startswith(wanted)
    ]
    for name in NAMES:
        module, _, path = name.partition(":")
        try:
            found: Any = import_module(module)
            for part in path.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError):
            faults.append(f"{name} is missing")
    if faults:
        raise Unsuitable("The engine does not fit the installed libraries: " + "; ".join(faults))


class Library(engineio.AsyncServer):  # type: ignore[misc]
    """The HTTP side of Engine.IO."""

    def __init__(self, hub: Hub) -> None:
        options = hub.options
        super().__init__(
            async_mode="aiohttp",
            transports=[*options.transports],
            ping_interval=options.ping_interval,
            ping_timeout=options.ping_timeout,
            max_http_buffer_size=options.max_message,
            cors_allowed_origins=self._allows if options.allow_origin else [],
            cors_credentials=False,
            http_compression=False,
            monitor_clients=False,
            logger=log.library_logger,
        )
        self.hub = hub
        self._plain = f"GET /{options.path}/?".encode()

    async def handle_request(self, request: web.Request) -> web.StreamResponse:
        """Answers any request to the engine's path."""
        if "sid" not in request.query and self.hub.full and request.method == "GET":
            return web.json_response({"message": "The server takes no more connections: try again"}, status=503)
        if "j" in request.query:
            return web.json_response({"message": "JSONP is not supported"}, status=400)
        answer: web.StreamResponse = await super().handle_request(request)
        return answer

    def welcome(self, data: bytes, transport: asyncio.Transport) -> bool:
        """Takes a connection over that begins with a handshake for a new websocket session, and nothing unusual.

        Whatever would be refused is not: `handle_request` does that, and says why.
        """
        hub = self.hub
        if not data.startswith(self._plain) or hub.full or hub.options.allow_origin is not None:
            return False
        handshake = read_handshake(data, transport, hub.loop)
        if handshake is None:
            return False
        if hub.options.may_skip_http is not None and not hub.options.may_skip_http(handshake):
            return False
        query = handshake.query
        if query.getall("EIO", ()) != ["4"] or query.getall("transport", ()) != ["websocket"]:
            return False
        if "sid" in query or "j" in query or "websocket" not in self.transports:
            return False
        websocket = WebSocket(hub)
        socket = Socket(hub, websocket, handshake)
        switch(transport, handshake.headers, websocket, socket, self._opening(self.generate_id(), upgrades=[]))
        if handshake.early:
            websocket.data_received(handshake.early)
        return True

    async def _handle_connect(
        self, environ: Mapping[str, Any], transport: str, jsonp_index: int | None = None
    ) -> web.Response | dict[str, Any]:
        request: web.Request = environ["aiohttp.request"]
        sid = self.generate_id()
        if transport == "websocket":
            if (refused := _refusal(request)) is not None:
                return refused
            websocket = WebSocket(self.hub)
            return take_over(request, websocket, Socket(self.hub, websocket, request), self._opening(sid, upgrades=[]))
        polling = Polling(self.hub, lambda: self.sockets.pop(sid, None))
        polling.session = Socket(self.hub, polling, request)
        self.sockets[sid] = Entry(self.hub, polling)
        upgrades = ["websocket"] if "websocket" in self.transports else []
        return self._ok([Text(self._opening(sid, upgrades).decode())])  # type: ignore[no-any-return]

    def _opening(self, sid: str, upgrades: list[str]) -> bytes:
        options = self.hub.options
        return b"0" + orjson.dumps(
            {
                "sid": sid,
                "upgrades": upgrades,
                "pingInterval": int(options.ping_interval * 1000),
                "pingTimeout": int(options.ping_timeout * 1000),
                "maxPayload": options.max_message,
            }
        )

    def _allows(self, origin: str, environ: Mapping[str, Any]) -> bool:
        allow = self.hub.options.allow_origin
        return allow is not None and allow(origin, environ["aiohttp.request"])


class Entry:
    """What the library keeps of a polling session."""

    connected = True
    upgraded = False

    def __init__(self, hub: Hub, polling: Polling) -> None:
        self._hub = hub
        self._polling = polling
        self._upgrade: Upgrade | None = None

    @property
    def closed(self) -> bool:
        return self._polling.closed

    async def handle_get_request(self, environ: Mapping[str, Any]) -> list[Text] | web.Response:
        request: web.Request = environ["aiohttp.request"]
        if request.query.get("transport") == "websocket":
            return self._begin_upgrade(request)
        try:
            return [Text(packet) for packet in await self._polling.get(request)]
        except Gone as gone:
            raise exceptions.EngineIOError from gone

    async def handle_post_request(self, environ: Mapping[str, Any]) -> None:
        try:
            await self._polling.post(environ["aiohttp.request"])
        except Gone as gone:
            raise exceptions.EngineIOError from gone

    async def close(self, reason: str) -> None:
        self._polling.session.end("transport error")

    def _begin_upgrade(self, request: web.Request) -> web.Response:
        if (refused := _refusal(request)) is not None:
            return refused
        if self._polling.on_close is not None:
            return web.json_response({"message": "An upgrade is under way"}, status=400)
        upgrade = Upgrade(self._hub, self._polling)
        return take_over(request, upgrade.websocket, upgrade, b"")


class Text:
    """A packet that is encoded already, for the library's payload."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def encode(self, b64: bool = False) -> str:
        return self._text


def _refusal(request: web.Request) -> web.Response | None:
    if request.transport is None or request.transport.is_closing():
        return web.Response(status=400, text="The connection is gone")
    return refusal(request.headers)
