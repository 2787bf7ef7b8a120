"""The Engine.IO/Socket.IO engine: sockets come in, calls and frames go through, nothing is unbounded.

The rest of the server sees `Engine`, `Socket`, `Refused` and the three `Handlers`; it never touches the library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import socketio
from aiohttp import web
from socketio.exceptions import ConnectionRefusedError as LibraryRefusal

from server import wire


class Refused(Exception):
    """A handshake is refused: the client gets `connect_error` with this message and data."""

    def __init__(self, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.message = message
        self.data = data


@dataclass(frozen=True, slots=True)
class Frame:
    """An event that is encoded once, for any number of sockets."""

    name: str
    data: Any


class Socket:
    """One Socket.IO connection of the default namespace."""

    __slots__ = ("connection", "engine", "id")

    def __init__(self, engine: Engine, sid: str) -> None:
        self.engine = engine
        self.id = sid
        self.connection: Any = None
        """Whatever the handlers attach."""

    async def send(self, frame: Frame) -> None:
        """Queues an event for this socket."""
        await self.engine.sio.emit(frame.name, frame.data, to=self.id)

    async def close(self) -> None:
        """Closes the transport: the client sees `transport close` and comes back by itself."""
        await self.engine.sio.eio.disconnect(self.engine.sio.manager.eio_sid_from_sid(self.id, "/"))


class Handlers(Protocol):
    """What the engine tells the server."""

    async def connect(self, socket: Socket, request: web.Request, auth: Any) -> None:
        """A client asks to connect; raise `Refused` to refuse. Nothing reaches the socket before this returns."""
        ...

    async def call(self, socket: Socket, name: str, arguments: Sequence[Any]) -> tuple[Any, ...]:
        """A client calls; the answer is the acknowledgement's arguments. Never raises."""
        ...

    async def disconnect(self, socket: Socket, reason: str) -> None:
        """An accepted socket is gone."""
        ...


class Engine:
    """Serves Socket.IO on an aiohttp application."""

    def __init__(self, handlers: Handlers, options: Mapping[str, Any] | None = None) -> None:
        self.handlers = handlers
        self.sockets: dict[str, Socket] = {}
        self.sio = socketio.AsyncServer(
            async_mode="aiohttp",
            json=wire.SocketJson,
            cors_allowed_origins=[],
            logger=False,
            engineio_logger=False,
            **(options or {}),
        )
        self.sio.on("connect", self._connect)
        self.sio.on("disconnect", self._disconnect)
        self.sio.on("*", self._call)

    def attach(self, app: web.Application) -> None:
        """Adds the `/socket.io/` routes."""
        self.sio.attach(app)

    async def close(self) -> None:
        """Closes every socket."""
        await self.sio.shutdown()

    async def _connect(self, sid: str, environ: Mapping[str, Any], auth: Any = None) -> None:
        socket = Socket(self, sid)
        try:
            await self.handlers.connect(socket, environ["aiohttp.request"], auth)
        except Refused as refusal:
            raise LibraryRefusal(refusal.message, refusal.data) from refusal
        self.sockets[sid] = socket

    async def _disconnect(self, sid: str, reason: str) -> None:
        socket = self.sockets.pop(sid, None)
        if socket is not None:
            await self.handlers.disconnect(socket, reason)

    async def _call(self, name: str, sid: str, *arguments: Any) -> tuple[Any, ...] | None:
        socket = self.sockets.get(sid)
        return await self.handlers.call(socket, name, arguments) if socket else None
