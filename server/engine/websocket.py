"""The websocket carrier: an asyncio protocol that takes a connection over from aiohttp after the handshake."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import cast

from server.engine import frames
from server.engine.carrier import Receiver
from server.engine.frames import FrameReader, Violation
from server.engine.hub import Hub
from server.engine.options import Options
from server.engine.packets import Frame

HIGH_WATER = 65_536
LOW_WATER = 16_384
GOODBYE = 5.0
"""Seconds in which a client is to read the rest and close its side."""


class WebSocket(FrameReader, asyncio.Protocol):
    """Frames go straight to the transport: no queue, no task.

    When the transport's buffer passes the high-water mark the client is *stalled* until it has read most of it, and
    what is written meanwhile is counted. It must make some headway in the time of a ping; past the options' bounds, a
    good deal in a few seconds; and at twice the bytes, or four times the packets, it is cut at once.
    """

    __slots__ = ("_goodbye", "_hub", "_open", "_parted", "_paused", "_stall", "_transport", "_unsent", "receiver")

    def __init__(self, hub: Hub) -> None:
        super().__init__(hub.options.max_message)
        self._hub = hub
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._open = False
        self._paused = False
        self._parted = False
        self._stall: Stall | None = None
        self._unsent: bytes | None = None
        self._goodbye: asyncio.TimerHandle | None = None
        self.receiver: Receiver = cast("Receiver", None)

    def take(self, transport: asyncio.Transport, receiver: Receiver) -> None:
        """Takes an upgraded connection over, for this receiver."""
        self.receiver = receiver
        self._transport = transport
        self._open = True
        transport.set_write_buffer_limits(HIGH_WATER, LOW_WATER)
        transport.set_protocol(self)

    @property
    def stalled(self) -> bool:
        return self._stall is not None

    def write(self, packet: bytes) -> None:
        self._send(frames.encode(frames.TEXT, packet))

    def write_frame(self, frame: Frame) -> None:
        self._send(frame.framed)

    def hold(self) -> None:
        # The transport is paused when something comes meanwhile: most holds are over before.
        self.held = True

    def release(self) -> None:
        if self._open:
            self.held = False
            self.data_received(b"")
            # What had been kept may have filled the receiver again.
            if self._paused and not self.held:
                self._paused = False
                self._transport.resume_reading()

    def review(self, now: float) -> str:
        stall = self._stall
        if stall is not None:
            if not stall.moves(now, self._transport.get_write_buffer_size()):
                return "slow consumer"
            if stall.watched:
                self.receiver.watch(self._hub.options.slow_after)
        return ""

    def close(self, code: int) -> None:
        if not self._open:
            return
        self._send(frames.encode_close(code))
        self.flush()
        self._leave()
        self._hub.leaving[self] = None
        transport = self._transport
        if transport.can_write_eof() and not self._parted:
            # The rest of what the client sends is read and dropped: closing with unread input would reset the
            # connection, and the client might never see what was sent to it.
            try:
                transport.write_eof()
            except OSError:
                # The client was faster.
                transport.abort()
            else:
                if self._paused:
                    transport.resume_reading()
        else:
            transport.close()
        self._goodbye = self._hub.loop.call_later(GOODBYE, transport.abort)

    def abort(self) -> None:
        self._leave()
        self._transport.abort()

    def flush(self) -> None:
        """Writes what was collected in this turn of the loop."""
        data, self._unsent = self._unsent, None
        if data is not None and self._open:
            self._transport.write(data)
            if self._stall is not None:
                self._weigh(self._stall, len(data))

    def _send(self, data: bytes) -> None:
        if not self._open:
            return
        if self._unsent is None:
            self._unsent = data
            if self._stall is None:
                self._hub.flush_soon(self)
                return
        else:
            self._unsent += data
        # A client that has stopped reading is weighed frame by frame.
        if self._stall is not None or len(self._unsent) > HIGH_WATER:
            self.flush()

    def _weigh(self, stall: Stall, size: int) -> None:
        pending = self._transport.get_write_buffer_size()
        if stall.add(size, pending):
            self.receiver.end("slow consumer")
        elif not stall.watched and stall.is_over(pending):
            stall.start_watch(self._hub.loop.time(), pending)
            self.receiver.watch(self._hub.options.slow_after)

    def _leave(self) -> None:
        self._open = False
        self.held = True

    # The transport calls these.

    def data_received(self, data: bytes) -> None:
        if not self._open:
            return
        if self.held and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        try:
            self.feed(data)
        except Violation as violation:
            self.receiver.fail(str(violation), violation.code)

    def pause_writing(self) -> None:
        self._stall = Stall(self._hub.options, self._hub.loop.time(), self._transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        self._stall = None
        if self._open:
            self.receiver.resume()

    def connection_lost(self, error: Exception | None) -> None:
        if self._goodbye is not None:
            self._goodbye.cancel()
            self._hub.leaving.pop(self, None)
        if self._open:
            self._leave()
            self.receiver.end("transport close" if error is None else "transport error")

    # The reader calls these.

    def on_text(self, payload: bytearray) -> None:
        self.receiver.receive(payload)

    def on_binary(self, payload: bytearray) -> None:
        self.receiver.receive_binary()

    def on_ping(self, payload: bytearray) -> None:
        self._send(frames.encode(frames.PONG, bytes(payload)))

    def on_close(self) -> None:
        self._parted = True
        self.receiver.end("transport close", frames.NORMAL)


class Stall:
    """What was written since a client stopped reading, and how much of it still waits."""

    __slots__ = ("_asked", "_options", "_sent", "_sizes", "_total", "_waiting", "watched")

    def __init__(self, options: Options, now: float, pending: int) -> None:
        self._options = options
        self._sizes: deque[int] = deque()
        self._waiting = 0
        self._total = 0
        self._sent = -pending
        self._asked = now
        self.watched = False
        """Whether it was past the bounds when it was last looked at."""

    def add(self, size: int, pending: int) -> bool:
        """Counts a frame; answers whether the client is so far behind that it must be cut at once."""
        self._sizes.append(size)
        self._waiting += size
        self._total += size
        return self.watched and self.is_over(pending, 2, 4)

    def is_over(self, pending: int, bytes_factor: int = 1, packets_factor: int = 1) -> bool:
        """Whether more than the allowed bytes or packets wait, when `pending` bytes are in the transport's buffer."""
        if pending > self._options.outgoing_bytes * bytes_factor:
            return True
        if len(self._sizes) <= self._options.outgoing_packets * packets_factor:
            return False
        while self._sizes and self._waiting - self._sizes[0] >= pending:
            self._waiting -= self._sizes.popleft()
        return len(self._sizes) > self._options.outgoing_packets * packets_factor

    def start_watch(self, now: float, pending: int) -> None:
        """From now on the client must make headway quickly."""
        self.watched = True
        self._asked, self._sent = now, self._total - pending

    def moves(self, now: float, pending: int) -> bool:
        """Whether the client has read enough for the time since it was last asked."""
        options = self._options
        was_watched, self.watched = self.watched, self.is_over(pending)
        if not was_watched and now - self._asked < options.ping_timeout:
            return True
        before, self._asked, self._sent = self._sent, now, self._total - pending
        wanted = options.slow_rate * options.slow_after if was_watched and self.watched else 1
        return self._sent - before >= wanted
