"""What carries a socket's packets: a websocket, or a row of polling requests."""

from __future__ import annotations

from typing import Protocol

from server.engine.packets import Frame


class Carrier(Protocol):
    """One transport of a socket. Its methods never raise and never wait."""

    @property
    def stalled(self) -> bool:
        """Whether the client reads too slowly for more calls to be started."""
        ...

    def write(self, packet: bytes) -> None:
        """Sends an Engine.IO packet."""
        ...

    def write_frame(self, frame: Frame) -> None:
        """Sends an event that goes to many."""
        ...

    def hold(self) -> None:
        """Reads nothing more from the client until `release`; its TCP window fills, and it must wait."""
        ...

    def release(self) -> None:
        """Reads on."""
        ...

    def review(self, now: float) -> str:
        """Looks after the carrier's own time-outs. Answers why the socket must end, or an empty text."""
        ...

    def close(self, code: int) -> None:
        """Sends what is left, says goodbye with a websocket close code, and closes."""
        ...

    def abort(self) -> None:
        """Drops the connection and all that was not sent."""
        ...


class Receiver(Protocol):
    """What a carrier hands its packets to."""

    def receive(self, packet: bytearray) -> None:
        """A text packet, not checked to be UTF-8."""
        ...

    def receive_binary(self) -> None:
        """A binary packet came, and was dropped."""
        ...

    def resume(self) -> None:
        """The client has read what was waiting for it."""
        ...

    def watch(self, delay: float) -> None:
        """The carrier wants to be reviewed in so many seconds."""
        ...

    def fail(self, message: str, code: int) -> None:
        """The client broke a protocol: its connection is closed with this websocket code."""
        ...

    def end(self, reason: str, code: int = 0) -> None:
        """It is over: the carrier is closed with the code, or, without one, aborted."""
        ...
