"""The websocket handshake, and how a connection passes to our protocol: from aiohttp's, or before it ever was aiohttp's."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from typing import Any, Final

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpProcessingError, HttpRequestParser
from aiohttp.streams import EMPTY_PAYLOAD
from multidict import MultiMapping

from server.engine import frames
from server.engine.carrier import Receiver
from server.engine.websocket import WebSocket

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSION = "13"
_ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n\r\n"
)
_HEAD_END: Final = b"\r\n\r\n"
_MOST_READ = 65_536


class Taken(web.Response):
    """The answer to a request whose connection is no longer aiohttp's: nothing is written."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


class Handshake:
    """A request for a websocket that was read before aiohttp made a request of it."""

    __slots__ = ("early", "headers", "query", "remote")

    def __init__(
        self, query: MultiMapping[str], headers: MultiMapping[str], early: bytes, transport: asyncio.Transport
    ) -> None:
        self.query = query
        self.headers = headers
        self.early = early
        """Frames that came with the request."""
        peer = transport.get_extra_info("peername")
        self.remote: str | None = str(peer[0]) if isinstance(peer, tuple) else peer


def read_handshake(data: bytes, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> Handshake | None:
    """The handshake that a connection's first bytes are: whole, read by aiohttp's own parser, and with no `refusal`.

    None for all else, whatever it is: aiohttp is to see it from its first byte.
    """
    if _HEAD_END not in data:
        return None
    parser = HttpRequestParser(BaseProtocol(loop), loop, _MOST_READ)
    try:
        messages, upgraded, early = parser.feed_data(data)
    except HttpProcessingError:
        return None
    if not upgraded or len(messages) != 1:
        return None
    message, payload = messages[0]
    headers = message.headers
    if (
        payload is not EMPTY_PAYLOAD
        or message.version != HttpVersion11
        or "Expect" in headers
        or len(headers.getall("Upgrade")) != 1
        or refusal(headers) is not None
    ):
        return None
    return Handshake(message.url.query, headers, early, transport)


def refusal(headers: MultiMapping[str]) -> web.Response | None:
    """Why a request with these headers cannot become a websocket, if it cannot."""
    if headers.get("Upgrade", "").strip().lower() != "websocket":
        return web.Response(status=400, text="This is for websockets only")
    if "upgrade" not in headers.get("Connection", "").lower():
        return web.Response(status=400, text="No upgrade is asked for")
    if headers.get("Sec-WebSocket-Version") != _VERSION:
        return web.Response(status=426, headers={"Sec-WebSocket-Version": _VERSION})
    if not _is_key(headers.get("Sec-WebSocket-Key", "")):
        return web.Response(status=400, text="The websocket key is not valid")
    return None


def switch(
    transport: asyncio.Transport, headers: MultiMapping[str], websocket: WebSocket, receiver: Receiver, greeting: bytes
) -> None:
    """Answers a handshake that has no `refusal`, and hands the connection to `websocket`.

    `greeting` is the first packet, if any.
    """
    key = headers["Sec-WebSocket-Key"].strip().encode()
    accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
    transport.write(_ANSWER % accept + (frames.encode(frames.TEXT, greeting) if greeting else b""))
    websocket.take(transport, receiver)


def take_over(request: web.Request, websocket: WebSocket, receiver: Receiver, greeting: bytes) -> web.Response:
    """Upgrades the connection of a request of aiohttp's, unless there is a `refusal`.

    The answer is what the request's handler is to return.
    """
    protocol: Any = request.protocol
    transport = request.transport
    assert transport is not None
    # Frames that came in one segment with the request.
    early: bytes = protocol._message_tail
    protocol.transport = None
    switch(transport, request.headers, websocket, receiver, greeting)
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
