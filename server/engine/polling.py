"""The polling carrier: packets wait in a list until the client fetches them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import cast

from aiohttp import web

from server.engine import frames
from server.engine.hub import Hub
from server.engine.packets import Frame
from server.engine.session import Session
from server.engine.websocket import GOODBYE, HIGH_WATER

NOOP = "6"
_CLOSE = b"1"
_SEPARATOR = b"\x1e"
_BREATH = 64
"""After so many packets of a body, others have their turn."""


class Gone(Exception):
    """The session is over: the request is answered with 400."""


class Polling:
    """A session over GETs, which fetch packets, and POSTs, which bring some; there is one of each at a time."""

    def __init__(self, hub: Hub, forget: Callable[[], None]) -> None:
        """`forget` is called once, when no further request is to be taken."""
        self.session: Session = cast("Session", None)
        self.upgrading = False
        """The client is changing to a websocket: until it has, it is sent nothing here."""
        self.closed = False
        self.on_close: Callable[[], None] | None = None
        """Called when the carrier is closed or aborted."""
        self._hub = hub
        self._forget = forget
        self._outgoing: list[str] = []
        self._size = 0
        self._watched = False
        self._fetched = asyncio.get_running_loop().time()
        self._parting = False
        self._waiter: asyncio.Future[None] | None = None
        self._getting = False
        self._posting = False
        self._free = asyncio.Event()
        self._free.set()

    # As a carrier.

    @property
    def stalled(self) -> bool:
        return self._size > HIGH_WATER

    def write(self, packet: bytes) -> None:
        if self.closed or self._parting:
            return
        self._outgoing.append(packet.decode())
        self._size += len(packet)
        self.wake()
        if self._watched and self._is_over(2, 4):
            self.session.end("slow consumer")
        elif not self._watched and self._is_over():
            self._watched = True
            self.session.watch(2 * self._hub.options.slow_after)

    def write_frame(self, frame: Frame) -> None:
        self.write(frame.packet)

    def hold(self) -> None:
        self._free.clear()

    def release(self) -> None:
        self._free.set()

    def review(self, now: float) -> str:
        options = self._hub.options
        if self._watched:
            return "slow consumer"
        late = now - self._fetched > options.ping_interval + options.ping_timeout
        return "ping timeout" if late and self._outgoing and not self.upgrading else ""

    def close(self, code: int) -> None:
        if not self.closed and not self._parting:
            self.write(_CLOSE)
            self._parting = True
            self._free.set()
            if self.on_close is not None:
                self.on_close()
            self._hub.leaving[self] = None
            asyncio.get_running_loop().call_later(GOODBYE, self.abort)

    def abort(self) -> None:
        if not self.closed:
            self.closed = True
            self._hub.leaving.pop(self, None)
            self._outgoing.clear()
            self._free.set()
            if self.on_close is not None:
                self.on_close()
            self._forget()
            self.wake()

    # For requests.

    async def get(self, request: web.Request) -> list[str]:
        """The packets that wait, as soon as there is one; the next ping ends the wait at the latest.

        Raises:
            Gone: the session is over.
        """
        if self.upgrading:
            return [NOOP]
        if self._getting:
            self.session.fail("two polls at once", frames.POLICY)
            raise Gone
        self._getting = True
        try:
            if not self._outgoing:
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
        finally:
            self._waiter = None
            self._getting = False
        if request.transport is None:
            self.session.end("transport close")
        if self.closed:
            raise Gone
        return [NOOP] if self.upgrading else self.take_outgoing()

    async def post(self, request: web.Request) -> None:
        """Takes the packets of a body, each when the session has room for it.

        Raises:
            Gone: the body does not come, or there are two of them.
        """
        if self._posting:
            self.session.fail("two posts at once", frames.POLICY)
            raise Gone
        self._posting = True
        try:
            for number, packet in enumerate(_packets(await self._read(request))):
                await self._free.wait()
                if number % _BREATH == _BREATH - 1:
                    await asyncio.sleep(0)
                if self.closed or self._parting:
                    break
                if packet.startswith(b"b"):
                    self.session.receive_binary()
                else:
                    self.session.receive(packet)
        finally:
            self._posting = False

    def take_outgoing(self) -> list[str]:
        """The packets that wait; they wait no longer."""
        packets, self._outgoing = self._outgoing, []
        was_stalled = self.stalled
        self._size = 0
        self._watched = False
        self._fetched = asyncio.get_running_loop().time()
        if self._parting:
            asyncio.get_running_loop().call_soon(self.abort)
        elif was_stalled:
            self.session.resume()
        return packets

    def wake(self) -> None:
        """Answers the GET that waits."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _read(self, request: web.Request) -> bytearray:
        options = self._hub.options
        body = bytearray()
        try:
            async with asyncio.timeout(options.message_timeout):
                async for chunk in request.content.iter_any():
                    body += chunk
                    if len(body) > options.max_message:
                        self.session.fail("a post that is too long", frames.TOO_BIG)
                        raise Gone
        except (TimeoutError, ConnectionError) as error:
            self.session.fail("a post that does not end", frames.POLICY)
            raise Gone from error
        return body

    def _is_over(self, bytes_factor: int = 1, packets_factor: int = 1) -> bool:
        options = self._hub.options
        return (
            self._size > options.outgoing_bytes * bytes_factor
            or len(self._outgoing) > options.outgoing_packets * packets_factor
        )


def _packets(body: bytearray) -> Iterator[bytearray]:
    # One after the other: a body of separators alone must not become a million objects.
    start = 0
    while (end := body.find(_SEPARATOR, start)) >= 0:
        yield body[start:end]
        start = end + 1
    yield body[start:]
