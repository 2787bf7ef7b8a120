"""Socket.IO packets: the ones of the hot path (events and acknowledgements) by hand, all others by the library."""

from __future__ import annotations

from typing import Any

import socketio.packet

from server import wire
from server.engine import frames

library: Any = socketio.packet

CONNECT: int = library.CONNECT
DISCONNECT: int = library.DISCONNECT
ACK: int = library.ACK
CONNECT_ERROR: int = library.CONNECT_ERROR
BINARY_EVENT: int = library.BINARY_EVENT
BINARY_ACK: int = library.BINARY_ACK


_MESSAGE = "4"
_BARE_CONNECT = b"40"
"""What a client without credentials begins with."""
_HEAD = 24
"""An event's JSON begins within so many bytes: `42` and at most 19 digits stand before it."""


class BadPacket(Exception):
    """The client broke the protocol: its connection is closed."""


class Malformed(Exception):
    """An event's JSON cannot be read, but its `ack` can be: the call is answered with an error."""

    def __init__(self, message: str, ack: bytes) -> None:
        super().__init__(message)
        self.ack = ack


class Frame:
    """An event that is encoded once, for any number of sockets."""

    __slots__ = ("_framed", "_packet", "data", "name")

    def __init__(self, name: str, data: Any) -> None:
        self.name = name
        self.data = data
        self._packet: bytes | None = None
        self._framed: bytes | None = None

    @property
    def packet(self) -> bytes:
        """The event as an Engine.IO packet.

        Raises:
            TypeError: the data has no wire form.
        """
        if self._packet is None:
            self._packet = b"42" + wire.encode((self.name, self.data))
        return self._packet

    @property
    def framed(self) -> bytes:
        """The packet in a websocket frame."""
        if self._framed is None:
            self._framed = frames.encode(frames.TEXT, self.packet)
        return self._framed


class _Packet(library.Packet):  # type: ignore[misc]
    json = wire.SocketJson


def read_event(packet: bytes | bytearray) -> tuple[str, list[Any], bytes]:
    """The name, the arguments and the ack id (empty: no answer is wanted) of an event packet, `42` included.

    No name is special here: `connect` is an event like any other, and the handlers answer it.

    Raises:
        BadPacket: it is no event of the default namespace. Malformed: its JSON is broken, and an answer is wanted.
    """
    start = packet.find(b"[", 2, _HEAD)
    ack = bytes(packet[2:start])
    if start < 0 or (ack and not ack.isdigit()):
        raise BadPacket("an event without its list of arguments")
    try:
        arguments = wire.decode(bytes(packet[start:]))
    except ValueError as error:
        if ack:
            raise Malformed(f"The message is not valid JSON: {str(error)[:200]}", ack) from error
        raise BadPacket("an event that is not JSON") from error
    name = arguments.pop(0) if arguments else None
    if type(name) is not str:
        raise BadPacket("an event without a proper name")
    return name, arguments, ack


def read_other(packet: bytes | bytearray) -> tuple[int, str, Any, int, int | None]:
    """The type, namespace, data, number of announced attachments and ack id of any Socket.IO packet, `4` included.

    Raises:
        BadPacket: it is none.
    """
    if packet == _BARE_CONNECT:
        return CONNECT, "/", None, 0, None
    try:
        read = _Packet(encoded_packet=packet.decode()[1:])
        kind, namespace = read.packet_type, read.namespace or "/"
    except (ValueError, TypeError, IndexError) as error:
        raise BadPacket("no Socket.IO packet") from error
    if type(kind) is not int or not library.CONNECT <= kind <= library.BINARY_ACK:
        raise BadPacket("an unknown Socket.IO packet")
    return kind, namespace, read.data, read.attachment_count, read.id


def answer(ack: bytes, arguments: tuple[Any, ...]) -> bytes:
    """An acknowledgement as an Engine.IO packet.

    Raises:
        TypeError: an argument has no wire form.
    """
    return b"43%b%b" % (ack, wire.encode(arguments))


def accepted(sid: str) -> bytes:
    """The packet that tells a client that it is connected."""
    return b'40{"sid":"%b"}' % sid.encode()


GOODBYE = b"41"
"""The packet that disconnects a client, who does not come back by himself then."""


def refused(message: str, data: Any = None, namespace: str = "/") -> bytes:
    """The packet that tells a client that it may not connect, for `connect_error`."""
    reason = {"message": message} if data is None else {"message": message, "data": data}
    encoded = _Packet(library.CONNECT_ERROR, data=reason, namespace=namespace).encode()
    return f"{_MESSAGE}{encoded}".encode()
