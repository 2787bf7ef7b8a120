"""One connection of the lean path: an asyncio protocol with at most one command in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pymongo.errors import AutoReconnect

from services.database.handover import Opened
from services.database.op_msg import PREFIX
from services.database.shares import Claim

# The largest document is 16 MiB; a reply of one batch is that and a little more.
_MAX_REPLY_BYTES = 2 * 16 * 1024 * 1024


class NotSent(AutoReconnect):
    """The command did not leave this process: it may be sent again, whatever it is."""


class Connection(asyncio.Protocol):
    """Sends a message and resolves to the bytes of its reply.

    It gives itself back by `on_idle` when the reply is there, even when nobody waits for it any more, so that a
    cancelled call neither loses a connection nor leaves its reply to the next.
    """

    __slots__ = (
        "_buffer",
        "_expected",
        "_loop",
        "_on_idle",
        "_on_lost",
        "_reply",
        "_transport",
        "holder",
        "lost",
        "opened",
        "since",
        "took",
    )

    def __init__(
        self, opened: Opened, on_idle: Callable[[Connection], None], on_lost: Callable[[Connection], None]
    ) -> None:
        """Takes the transport of `opened` over."""
        self._loop = asyncio.get_running_loop()
        self.opened = opened
        #: The loop's time of the last change between busy and idle.
        self.since = self._loop.time()
        #: To whom the pool has lent it, and the seconds that its reply took once there is one.
        self.holder: Claim | None = None
        self.took: float | None = None
        #: Done when the transport is closed.
        self.lost: asyncio.Future[None] = self._loop.create_future()
        self._transport = opened.transport
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._reply: asyncio.Future[bytes | bytearray] | None = None
        self._buffer: bytearray | None = None
        self._expected = 0
        opened.hand_over_to(self)

    @property
    def busy(self) -> bool:
        """Whether a reply is awaited."""
        return self._reply is not None

    @property
    def usable(self) -> bool:
        """Whether a message can be sent."""
        return self._reply is None and not self.lost.done() and not self._transport.is_closing()

    def exchange(self, message: bytes) -> asyncio.Future[bytes | bytearray]:
        """Sends a message; the future ends with the reply's bytes, or AutoReconnect when the connection is lost.

        Raises:
            NotSent: The connection is lost already.
        """
        if not self.usable:
            raise NotSent("the connection to the database was lost")
        self._reply = reply = self._loop.create_future()
        self.since = self._loop.time()
        self._transport.write(message)
        return reply

    def close(self, error: AutoReconnect) -> None:
        """Ends the connection at once; who waits for a reply gets `error`."""
        self._fail(error)
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Collects bytes until one whole message is there."""
        message: bytes | bytearray = data
        if self._buffer is not None:
            self._buffer += data
            message = self._buffer
        elif self._reply is None:
            self.close(AutoReconnect("the server sent what nobody asked for"))
            return
        if not self._expected:
            if len(message) < PREFIX.size:
                self._buffer = bytearray(data) if self._buffer is None else self._buffer
                return
            self._expected = int.from_bytes(message[:4], "little")
            if not PREFIX.size < self._expected <= _MAX_REPLY_BYTES:
                self.close(AutoReconnect(f"the server announced a reply of {self._expected} bytes"))
                return
        if len(message) < self._expected:
            self._buffer = bytearray(data) if self._buffer is None else self._buffer
        elif len(message) > self._expected:
            self.close(AutoReconnect("the server sent more than one reply"))
        else:
            self._finish(message)

    def connection_lost(self, error: Exception | None) -> None:
        """The transport is closed."""
        self._fail(AutoReconnect("the connection to the database was lost"))
        if not self.lost.done():
            self.lost.set_result(None)
        self._on_lost(self)

    def _finish(self, message: bytes | bytearray) -> None:
        reply, self._reply = self._reply, None
        self._buffer, self._expected = None, 0
        now = self._loop.time()
        self.took, self.since = now - self.since, now
        if reply is not None and not reply.done():
            reply.set_result(message)
        self._on_idle(self)

    def _fail(self, error: AutoReconnect) -> None:
        reply, self._reply = self._reply, None
        if reply is not None and not reply.done():
            reply.set_exception(error)
