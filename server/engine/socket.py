"""Socket.IO: one connection of the default namespace, and the door through which its calls come."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from functools import partial
from typing import Any, Final

from hooks.errors import BadRequest, GeneralError, to_feathers_error
from server.engine import frames, log, packets
from server.engine.carrier import Carrier
from server.engine.gate import Gate
from server.engine.handlers import Refused, Request
from server.engine.hub import Hub
from server.engine.packets import BadPacket, Frame, Malformed
from server.engine.session import Session

_NEW: Final = 0
_ASKING: Final = 1
_ACCEPTED: Final = 2
_LATE: Final = 3
_REFUSED: Final = 4

_PARTING = 1.0
"""Seconds in which a client that was refused is to go by itself."""
_MAX_NAMESPACES = 10

_Call = tuple[str, list[Any], bytes]


class Socket(Session):
    """One Socket.IO connection of the default namespace."""

    __slots__ = (
        "_asking",
        "_attachments",
        "_namespaces",
        "_parked",
        "_request",
        "_retiring",
        "_running",
        "_state",
        "_unsent",
        "_waiting",
        "connection",
        "gate",
        "id",
    )

    def __init__(self, hub: Hub, carrier: Carrier, request: Request) -> None:
        super().__init__(hub, carrier)
        self.id = secrets.token_urlsafe(15)
        self.connection: Any = None
        """Whatever the handlers attach."""
        self.gate: Gate | None = None
        """A bound on running calls that this socket shares with others, if the handlers attach one."""
        self._request: Request | None = request
        self._state = _NEW
        self._asking: asyncio.Task[None] | None = None
        self._running = 0
        self._waiting: deque[_Call] | None = None
        self._unsent: deque[tuple[bytes, tuple[Any, ...]]] | None = None
        self._parked = False
        self._retiring = False
        self._attachments = 0
        self._namespaces = 0
        hub.sockets[self] = None

    def write(self, frame: Frame) -> None:
        """Sends an event; one to a socket that is not accepted, or gone, is dropped."""
        if self._state == _ACCEPTED:
            self.carrier.write_frame(frame)

    async def close(self) -> None:
        """Closes the transport: the client sees `transport close` and comes back by itself."""
        self.end("server disconnect", frames.GOING_AWAY)

    def dismiss(self) -> None:
        """Disconnects for good: the client sees `io server disconnect`, after what was sent before, and stays away."""
        if self._state != _ACCEPTED:
            self.end("server disconnect", frames.GOING_AWAY)
            return
        self.hold()
        self._waiting = None
        self.carrier.write(packets.GOODBYE)
        # One that polls has to come for it.
        asyncio.get_running_loop().call_later(_PARTING, self.end, "server disconnect", frames.GOING_AWAY)

    def retire(self) -> None:
        """Takes no more calls, and closes the transport when the last one is answered."""
        self._retiring = True
        self.hold()
        self._leave_if_idle()

    def end(self, reason: str, code: int = 0) -> None:
        """Ends the session. Calls that run are finished; those that wait are not begun."""
        if not self.open:
            return
        accepted = self._state == _ACCEPTED
        super().end(reason, code)
        self._state = _REFUSED
        self._waiting = None
        self._unsent = None
        self.hub.forget(self)
        if accepted:
            # Not at once: whoever ends it may be in the middle of something.
            self.hub.loop.call_soon(self._tell_end, reason)

    def resume(self) -> None:
        """Goes on with the answers and the calls that waited for the client to read."""
        while self._unsent and not self.carrier.stalled:
            self._answer(*self._unsent.popleft())
            self._finish_call()
        self._proceed()

    def receive_binary(self) -> None:
        """A binary packet is dropped when it was announced, and ends the session when it was not."""
        if self._attachments:
            self._attachments -= 1
        else:
            self.fail("a binary message that was not announced", frames.POLICY)

    def review(self, now: float) -> float:
        """Ends what has not become, or is no longer, an accepted socket; then as every session."""
        if self._state == _ACCEPTED:
            return super().review(now)
        if self._state == _NEW:
            self.end("handshake timeout", frames.POLICY)
        elif self._state == _REFUSED:
            self.end("refused", frames.NORMAL)
        elif self._state == _ASKING and self._asking is not None:
            self._state = _LATE
            self._asking.cancel()
        return 0

    def on_message(self, packet: bytearray) -> None:
        if self._attachments:
            raise BadPacket("a packet among the attachments of another")
        if packet[1:2] == b"2":
            self._take_event(packet)
            return
        kind, namespace, data, attachments, ack = packets.read_other(packet)
        if attachments > self.hub.options.max_attachments:
            raise BadPacket("too many attachments")
        if kind == packets.CONNECT:
            self._take_connect(namespace, data)
        elif self._state != _ACCEPTED:
            raise BadPacket("a packet before CONNECT")
        elif kind == packets.DISCONNECT and namespace == "/":
            self.end("client namespace disconnect", frames.NORMAL)
        elif kind == packets.BINARY_EVENT:
            self._attachments = attachments
            if ack is not None:
                refusal = BadRequest("Binary values are not supported: send text, for example base64")
                self._answer(b"%d" % ack, (refusal.to_json(),))
        elif kind == packets.BINARY_ACK:
            self._attachments = attachments
        elif kind != packets.ACK:
            raise BadPacket("a packet that only a server may send")

    def _take_connect(self, namespace: str, auth: Any) -> None:
        if namespace != "/":
            self._namespaces += 1
            if self._namespaces > _MAX_NAMESPACES:
                raise BadPacket("too many namespaces")
            self.carrier.write(packets.refused("Invalid namespace", namespace=namespace[:100]))
        elif self._state != _NEW:
            raise BadPacket("a second CONNECT")
        else:
            self._state = _ASKING
            # Nothing else is read until it is known whether the client may speak at all.
            self.hold()
            self._asking = self.hub.start(self._ask(auth))
            self.watch(self.hub.options.handshake_timeout)

    async def _ask(self, auth: Any) -> None:
        request, self._request = self._request, None
        assert request is not None
        try:
            await self.hub.handlers.connect(self, request, auth)
        except Refused as refusal:
            self._refuse(refusal.message, refusal.data)
        except asyncio.CancelledError:
            if self._state != _LATE:
                raise
            self._refuse("The handshake took too long: try again", None)
        except Exception:
            log.logger.exception("a handshake failed")
            self._refuse("Something went wrong on the server.", None)
        else:
            if not self.open:
                self._tell_end("transport close")
                return
            self._state = _ACCEPTED
            self._asking = None
            self.carrier.write(packets.accepted(self.id))
            self.watch(self.hub.options.ping_interval)
            if self._retiring:
                self._leave_if_idle()
            else:
                self.release()

    def _refuse(self, message: str, data: Any) -> None:
        if self.open:
            self._state = _REFUSED
            self.carrier.write(packets.refused(message, data))
            self.watch(_PARTING)

    def _tell_end(self, reason: str) -> None:
        try:
            self.hub.handlers.disconnect(self, reason)
        except Exception:
            log.logger.exception("the disconnect handler failed")

    # Calls: at most `running_calls` run, `waiting_calls` wait in order; while that many wait, the client is not read.

    def _take_event(self, packet: bytearray) -> None:
        if self._state != _ACCEPTED:
            raise BadPacket("an event before CONNECT")
        try:
            name, arguments, ack = packets.read_event(packet)
        except Malformed as fault:
            self._answer(fault.ack, (BadRequest(str(fault)).to_json(),))
            return
        if self._waiting or not self._may_run() or not self._enter_gate():
            if self._waiting is None:
                self._waiting = deque()
            self._waiting.append((name, arguments, ack))
            if len(self._waiting) >= self.hub.options.waiting_calls:
                self.hold()
        else:
            self._begin(name, arguments, ack)

    def _may_run(self) -> bool:
        return self._running < self.hub.options.running_calls and not self.carrier.stalled

    def _enter_gate(self) -> bool:
        if self.gate is None or self.gate.enter():
            return True
        if not self._parked:
            self._parked = True
            self.gate.park(partial(self._take_turn, self.gate))
        return False

    def move(self, gate: Gate) -> None:
        """Has later calls pass another gate; those that run give back their places where they took them."""
        if gate is not self.gate:
            self.gate = gate
            self._parked = False
            if self._waiting:
                self._proceed()

    def _take_turn(self, gate: Gate) -> bool:
        """The gate has a place for one call."""
        if gate is not self.gate:
            return False
        self._parked = False
        if not self._waiting or not self._may_run():
            return False
        self._begin(*self._waiting.popleft())
        self._proceed()
        return True

    def _begin(self, name: str, arguments: list[Any], ack: bytes) -> None:
        self._running += 1
        self.hub.running_calls += 1
        self.hub.start(self._call(name, arguments, ack, self.gate))

    async def _call(self, name: str, arguments: list[Any], ack: bytes, gate: Gate | None) -> None:
        try:
            answer = await self.hub.handlers.call(self, name, arguments)
        except Exception as error:
            log.logger.exception("a call failed")
            answer = (to_feathers_error(error).to_json(),)
        finally:
            self.hub.running_calls -= 1
            if gate is not None:
                gate.leave()
        if ack and self.open and (self._unsent or self.carrier.stalled):
            # An event cannot wait until the client has read what came before it; an answer can, in its call's place.
            if self._unsent is None:
                self._unsent = deque()
            self._unsent.append((ack, answer))
        else:
            if ack:
                self._answer(ack, answer)
            self._finish_call()

    def _finish_call(self) -> None:
        self._running -= 1
        if self._waiting:
            self._proceed()
        if self._retiring:
            self._leave_if_idle()

    def _answer(self, ack: bytes, arguments: tuple[Any, ...]) -> None:
        if not self.open:
            return
        try:
            packet = packets.answer(ack, arguments)
        except TypeError:
            log.logger.exception("an answer has no wire form")
            packet = packets.answer(ack, (GeneralError().to_json(),))
        self.carrier.write(packet)

    def _proceed(self) -> None:
        """Begins what waits, as far as there are places, and reads on when half of the waiting room is free."""
        waiting = self._waiting
        while waiting and self._may_run() and self._enter_gate():
            self._begin(*waiting.popleft())
        if self.held and not self._retiring and len(waiting or ()) * 2 <= self.hub.options.waiting_calls:
            self.release()

    def _leave_if_idle(self) -> None:
        if self._state != _ASKING and not self._running and not self._waiting:
            self.end("server shutting down", frames.GOING_AWAY)
