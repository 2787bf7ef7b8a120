"""Websocket frames (RFC 6455), without a network: bytes to messages and back."""

from __future__ import annotations

from aiohttp._websocket.helpers import websocket_mask

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
NORMAL, GOING_AWAY, PROTOCOL_ERROR, POLICY, TOO_BIG, FAULT = 1000, 1001, 1002, 1008, 1009, 1011

_FINAL = 0x80
_RESERVED = 0x70
_FINAL_TEXT = _FINAL | TEXT
_MAX_CONTROL = 125


class Violation(Exception):
    """The peer broke the websocket protocol; `code` is the close code that says how."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def encode(opcode: int, payload: bytes) -> bytes:
    """One unmasked, final frame, as a server sends it."""
    size = len(payload)
    if size < 126:
        return bytes((_FINAL | opcode, size)) + payload
    if size < 65_536:
        return bytes((_FINAL | opcode, 126)) + size.to_bytes(2) + payload
    return bytes((_FINAL | opcode, 127)) + size.to_bytes(8) + payload


def encode_close(code: int) -> bytes:
    """A close frame."""
    return encode(CLOSE, code.to_bytes(2))


class FrameReader:
    """Reads a client's frames and hands on whole messages.

    While `held` is true nothing is read: what arrives stays as it came, two chunks of the transport at most. No more
    than `max_message` bytes are ever kept for one message, however it is cut into frames.
    """

    __slots__ = ("_buffer", "_fragments", "_needed", "_opcode", "held", "max_message")

    def __init__(self, max_message: int) -> None:
        self.max_message = max_message
        self.held = False
        self._buffer: bytearray | None = None
        self._needed = 0
        self._fragments: bytearray | None = None
        self._opcode = 0

    def feed(self, data: bytes) -> None:
        """Takes what came from the network.

        Raises:
            Violation: the connection is to be closed with its code.
        """
        buffer = self._buffer
        if buffer is None:
            used = self._read(data)
            if used < len(data):
                self._buffer = bytearray(memoryview(data)[used:])
            return
        buffer += data
        if len(buffer) >= self._needed:
            used = self._read(buffer)
            if used == len(buffer):
                self._buffer = None
            else:
                del buffer[:used]

    def on_text(self, payload: bytearray) -> None:
        """A text message, not checked to be UTF-8."""
        raise NotImplementedError

    def on_binary(self, payload: bytearray) -> None:
        """A binary message."""
        raise NotImplementedError

    def on_ping(self, payload: bytearray) -> None:
        """A ping frame, to be answered."""
        raise NotImplementedError

    def on_close(self) -> None:
        """The peer says goodbye."""
        raise NotImplementedError

    def _read(self, data: bytes | bytearray) -> int:
        at, end = 0, len(data)
        while not self.held:
            left = end - at
            if left < 6:
                self._needed = 6
                break
            first, second = data[at], data[at + 1]
            if second < 0x80:
                raise Violation(PROTOCOL_ERROR, "a frame that is not masked")
            size = second & 0x7F
            start = at + 6
            if size == 126:
                if left < 8:
                    self._needed = 8
                    break
                size = data[at + 2] << 8 | data[at + 3]
                start = at + 8
            elif size == 127:
                if left < 14:
                    self._needed = 14
                    break
                size = int.from_bytes(data[at + 2 : at + 10])
                start = at + 14
            kept = 0 if self._fragments is None else len(self._fragments)
            if size + kept > self.max_message:
                raise Violation(TOO_BIG, "a message that is too long")
            stop = start + size
            if stop > end:
                self._needed = stop - at
                break
            payload = bytearray(data[start:stop])
            websocket_mask(bytes(data[start - 4 : start]), payload)
            at = stop
            if first == _FINAL_TEXT and self._fragments is None:
                self.on_text(payload)
            else:
                self._take(first, payload)
        else:
            self._needed = 0
        return at

    def _take(self, first: int, payload: bytearray) -> None:
        opcode = first & 0x0F
        final = first & _FINAL
        if first & _RESERVED:
            raise Violation(PROTOCOL_ERROR, "a frame with reserved bits")
        if opcode >= CLOSE:
            self._take_control(opcode, payload, whole=bool(final) and len(payload) <= _MAX_CONTROL)
        elif opcode == CONTINUATION and self._fragments is not None:
            self._fragments += payload
            if final:
                whole, self._fragments = self._fragments, None
                self._hand_on(self._opcode, whole)
        elif opcode in (TEXT, BINARY) and self._fragments is None:
            if final:
                self._hand_on(opcode, payload)
            else:
                self._opcode = opcode
                self._fragments = payload
        else:
            raise Violation(PROTOCOL_ERROR, "a frame out of order")

    def _take_control(self, opcode: int, payload: bytearray, *, whole: bool) -> None:
        if not whole:
            raise Violation(PROTOCOL_ERROR, "a control frame that is cut or too long")
        if opcode == PING:
            self.on_ping(payload)
        elif opcode == CLOSE:
            self.on_close()
        elif opcode != PONG:
            raise Violation(PROTOCOL_ERROR, "an unknown control frame")

    def _hand_on(self, opcode: int, payload: bytearray) -> None:
        if opcode == TEXT:
            self.on_text(payload)
        else:
            self.on_binary(payload)
