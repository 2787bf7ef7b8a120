"""A bare websocket client for tests: it sends what no client library would, and sees what they hide."""

from __future__ import annotations

import asyncio
import itertools
import json
from contextlib import suppress
from typing import Any, Self

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
CONNECT = "40"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
PATH = "/socket.io/?EIO=4&transport=websocket"


class Rejected(Exception):
    """The server answered the upgrade with this HTTP status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"rejected with {status}")
        self.status = status


class Closed(Exception):
    """The server closed the connection; `code` is the websocket close code, None after a reset or a bare end."""

    def __init__(self, code: int | None) -> None:
        super().__init__(f"closed with {code}")
        self.code = code


def frame(
    payload: bytes | str, opcode: int = TEXT, *, final: bool = True, mask: bytes | None = b"\x01\x02\x03\x04"
) -> bytes:
    """One frame as a client sends it; without a mask it breaks the protocol."""
    data = payload.encode() if isinstance(payload, str) else payload
    head = bytes([(0x80 if final else 0) | opcode])
    masked = 0x80 if mask is not None else 0
    if len(data) < 126:
        head += bytes([masked | len(data)])
    elif len(data) < 65_536:
        head += bytes([masked | 126]) + len(data).to_bytes(2, "big")
    else:
        head += bytes([masked | 127]) + len(data).to_bytes(8, "big")
    if mask is None:
        return head + data
    size = len(data)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return head + mask + (int.from_bytes(data, "big") ^ key).to_bytes(size, "big")


def event(name: Any, *arguments: Any, ack: int | str = "") -> str:
    """An event packet."""
    return f"42{ack}{json.dumps([name, *arguments])}"


class RawSocket:
    """One websocket, upgraded and nothing more, unless `join` is called."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._acks = itertools.count(1)
        self.sid = ""

    @classmethod
    async def open(cls, port: int, path: str = PATH, **headers: str) -> Self:
        """Upgrades a connection and reads nothing yet.

        Raises:
            Rejected: the server does not upgrade.
        """
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        wanted = {
            "Host": f"127.0.0.1:{port}",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": KEY,
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in wanted.items())
        writer.write(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 101 "):
            writer.close()
            raise Rejected(int(answer.split()[1]))
        return cls(reader, writer)

    @classmethod
    async def join(cls, port: int, **headers: str) -> Self:
        """Opens a socket and connects to the default namespace."""
        raw = await cls.open(port, **headers)
        opening = await raw.receive()
        assert opening.startswith("0{")
        raw.send(CONNECT)
        answer = await raw.receive()
        assert answer.startswith('40{"sid":"'), answer
        raw.sid = json.loads(answer[2:])["sid"]
        return raw

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.abort()

    @property
    def socket(self) -> Any:
        """The socket of the operating system."""
        return self._writer.get_extra_info("socket")

    async def abort(self) -> None:
        """Drops the connection."""
        self._writer.transport.abort()
        with suppress(ConnectionError):
            await self._writer.wait_closed()

    def send(self, packet: str | bytes) -> None:
        """Sends a text packet in one frame."""
        self._writer.write(frame(packet))

    def send_raw(self, data: bytes) -> None:
        """Sends bytes as they are."""
        self._writer.write(data)

    async def flush(self) -> None:
        """Waits until most of what was sent has gone."""
        await self._writer.drain()

    async def receive(self, seconds: float = 5.0) -> str:
        """The next text packet; pings of Engine.IO and of websockets are answered.

        Raises:
            Closed: there is none. TimeoutError: not in time.
        """
        async with asyncio.timeout(seconds):
            while True:
                opcode, payload = await self._read_frame()
                if opcode == CLOSE:
                    raise Closed(int.from_bytes(payload[:2], "big"))
                if opcode == TEXT:
                    if payload == b"2":
                        self.send("3")
                    else:
                        return payload.decode()

    async def receive_frame(self, seconds: float = 5.0) -> tuple[int, bytes]:
        """The next frame, whatever it is."""
        async with asyncio.timeout(seconds):
            return await self._read_frame()

    async def call(self, name: str, *arguments: Any, seconds: float = 5.0) -> list[Any]:
        """Sends an event and waits for its acknowledgement; other packets are passed over."""
        ack = next(self._acks)
        self.send(event(name, *arguments, ack=ack))
        while True:
            packet = await self.receive(seconds)
            if packet.startswith(f"43{ack}["):
                answer: list[Any] = json.loads(packet[len(f"43{ack}") :])
                return answer

    async def closing(self, seconds: float = 5.0) -> int | None:
        """Reads until the server closes; answers the close code."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    await self.receive(seconds)
        except Closed as closed:
            return closed.code

    async def _read_frame(self) -> tuple[int, bytes]:
        try:
            first, second = await self._reader.readexactly(2)
            size = second & 0x7F
            if size == 126:
                size = int.from_bytes(await self._reader.readexactly(2), "big")
            elif size == 127:
                size = int.from_bytes(await self._reader.readexactly(8), "big")
            return first & 0x0F, await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise Closed(None) from None
