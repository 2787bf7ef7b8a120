"""A websocket client in its raw form: the handshake and frames over an asyncio transport, nothing else.

It is made to cost little and to misbehave on demand, for load and for tests: text arrives in a callback, any frame can
be sent as it is, and the transport is there to pause reading or to abort.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from typing import cast

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
FINAL = 0x80

KEY = "cmF3IGJlbmNoIGNsaWVudA=="
ACCEPT = b"bJyAQ6ufwolZbm4IRk7d7ZK1qQE="
"""The handshake's key and its answer: constants, since nothing here hides from caches."""

MASK = b"\x5a\xc3\x17\x9e"
"""One mask for all frames. It is not zero, so that servers do the unmasking that real clients cause."""
PATTERN = MASK * 4096


class HandshakeError(Exception):
    """The server answered the upgrade with something else. `status` is the HTTP status, 0 when there was none."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def mask(payload: bytes) -> bytes:
    """`payload` as a client has to send it."""
    size = len(payload)
    pattern = PATTERN[:size] if size <= len(PATTERN) else (MASK * (size // 4 + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(pattern)).to_bytes(size)


def frame(payload: bytes, opcode: int = TEXT, *, final: bool = True) -> bytes:
    """One masked frame."""
    first, size = opcode | (FINAL if final else 0), len(payload)
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 65536:
        head = bytes((first, 0x80 | 126, size >> 8, size & 0xFF))
    else:
        head = bytes((first, 0x80 | 127)) + size.to_bytes(8)
    return head + MASK + mask(payload)


class WebSocket(asyncio.Protocol):
    """One client's websocket. Subclasses take text in `on_text`.

    `closed` is done when the connection is gone, with the close code: 1006 when the server sent none.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.upgraded: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[int] = loop.create_future()
        self.transport: asyncio.Transport
        self._rest = b""
        self._fragments: list[bytes] = []
        self._code = 1006
        self._closing = False

    async def upgrade(self, host: str, port: int, target: str, headers: Mapping[str, str] | None = None) -> None:
        """Connects and shakes hands.

        Raises:
            HandshakeError: the server refused, or hung up.
            OSError: there is no server.
        """
        await asyncio.get_running_loop().create_connection(lambda: self, host, port)
        fields = {
            "Host": f"{host}:{port}",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": KEY,
            **(headers or {}),
        }
        lines = [f"GET {target} HTTP/1.1", *itertools.starmap("{}: {}".format, fields.items()), "", ""]
        self.transport.write("\r\n".join(lines).encode())
        await self.upgraded

    def send(self, text: bytes) -> None:
        """Sends one text message."""
        self.transport.write(frame(text))

    def send_frame(self, payload: bytes, opcode: int, *, final: bool = True) -> None:
        """Sends one frame as it is given."""
        self.transport.write(frame(payload, opcode, final=final))

    async def close(self, code: int = 1000) -> int:
        """Closes in good order; the server's close code."""
        if not self._closing and not self.closed.done():
            self._closing = True
            self.send_frame(code.to_bytes(2), CLOSE)
        return await self.closed

    def abort(self) -> None:
        """Cuts the connection without a word."""
        self.transport.abort()

    def on_text(self, text: bytes) -> None:
        """Called with each text message."""
        raise NotImplementedError

    def on_closed(self) -> None:
        """Called once when the connection is gone."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no class that asyncio knows.
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.upgraded.done():
            self.upgraded.set_exception(HandshakeError(0, "the server hung up during the handshake"))
        self.closed.set_result(self._code)
        self.on_closed()

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        if not self.upgraded.done():
            head, blank, data = data.partition(b"\r\n\r\n")
            if not blank:
                self._rest = head
                return
            self._finish_handshake(head)
        self._rest = self._take_frames(data)

    def _finish_handshake(self, head: bytes) -> None:
        status = int(head[9:12]) if head.startswith(b"HTTP/1.1 ") else 0
        if status == 101 and ACCEPT in head:
            self.upgraded.set_result(None)
            return
        self.upgraded.set_exception(HandshakeError(status, head.partition(b"\r\n")[0].decode(errors="replace")))
        self.transport.abort()

    def _take_frames(self, data: bytes) -> bytes:
        """Handles all whole frames of `data`; what is left of it."""
        start, end = 0, len(data)
        while end - start >= 2:
            size, body = data[start + 1], start + 2
            if size == 126:
                body += 2
                size = int.from_bytes(data[start + 2 : body])
            elif size == 127:
                body += 8
                size = int.from_bytes(data[start + 2 : body])
            stop = body + size
            if stop > end or body > end:
                break
            if data[start] == TEXT | FINAL:
                self.on_text(data[body:stop])
            else:
                self._take_other(data[start], data[body:stop])
            start = stop
        return data[start:]

    def _take_other(self, first: int, payload: bytes) -> None:
        opcode = first & 0x0F
        if opcode == PING:
            self.send_frame(payload, PONG)
        elif opcode == CLOSE:
            self._code = int.from_bytes(payload[:2]) if payload else 1005
            if not self._closing:
                self._closing = True
                self.send_frame(payload[:2], CLOSE)
            self.transport.close()
        elif opcode in (0, TEXT):
            self._fragments.append(payload)
            if first & FINAL:
                message, self._fragments = b"".join(self._fragments), []
                self.on_text(message)
