"""The websocket handshake, and how a connection passes from aiohttp's protocol to ours."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from server.engine import frames
from server.engine.carrier import Receiver
from server.engine.websocket import WebSocket

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSION = "13"
_ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n\r\n"
)


class Taken(web.Response):
    """The answer to a request whose connection is no longer aiohttp's: nothing is written."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


def refusal(request: web.Request) -> web.Response | None:
    """Why the request cannot become a websocket, if it cannot."""
    headers = request.headers
    if headers.get("Upgrade", "").strip().lower() != "websocket":
        return web.Response(status=400, text="This is for websockets only")
    if "upgrade" not in headers.get("Connection", "").lower():
        return web.Response(status=400, text="No upgrade is asked for")
    if headers.get("Sec-WebSocket-Version") != _VERSION:
        return web.Response(status=426, headers={"Sec-WebSocket-Version": _VERSION})
    if not _is_key(headers.get("Sec-WebSocket-Key", "")):
        return web.Response(status=400, text="The websocket key is not valid")
    if request.transport is None or request.transport.is_closing():
        return web.Response(status=400, text="The connection is gone")
    return None


def take_over(request: web.Request, websocket: WebSocket, receiver: Receiver, greeting: bytes) -> Taken:
    """Upgrades the connection of a request that has no `refusal`, and hands it to `websocket`.

    `greeting` is the first packet, if any. The answer is what the request's handler is to return.
    """
    protocol: Any = request.protocol
    transport = request.transport
    assert transport is not None
    key = request.headers["Sec-WebSocket-Key"].strip().encode()
    accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
    transport.write(_ANSWER % accept + (frames.encode(frames.TEXT, greeting) if greeting else b""))
    # Frames that came in one segment with the request.
    early: bytes = protocol._message_tail
    protocol.transport = None
    websocket.take(transport, receiver)
    protocol.connection_lost(None)
    transport.resume_reading()
    if early:
        websocket.data_received(early)
    return Taken()


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text.strip(), validate=True)) == 16
    except (binascii.Error, ValueError):
        return False
