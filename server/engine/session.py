"""Engine.IO: a session over one carrier after another, kept alive by pings."""

from __future__ import annotations

from server.engine import frames, log
from server.engine.carrier import Carrier
from server.engine.hub import Hub
from server.engine.packets import BadPacket

_CLOSE, _PONG, _MESSAGE, _NOOP = b"1346"
PING = b"2"


class Session:
    """One Engine.IO session. What it carries is the business of its subclass."""

    __slots__ = ("_ping_at", "_pong_by", "carrier", "held", "hub", "open", "slot")

    def __init__(self, hub: Hub, carrier: Carrier) -> None:
        """Begins a session, which is to be accepted before the handshake's time is over."""
        self.hub = hub
        self.carrier = carrier
        self.open = True
        self.held = False
        self.slot = 0
        self._ping_at = self.hub.loop.time() + hub.options.ping_interval
        self._pong_by = 0.0
        hub.wheel.put(self, hub.options.handshake_timeout)

    def receive(self, packet: bytearray) -> None:
        """Takes an Engine.IO text packet. A bad one ends the session."""
        kind = packet[0] if packet else 0
        if kind == _MESSAGE:
            try:
                self.on_message(packet)
            except BadPacket as bad:
                self.fail(str(bad), frames.POLICY)
            except Exception:
                log.logger.exception("a packet could not be handled")
                self.end("server fault", frames.FAULT)
        elif kind == _PONG:
            if self._pong_by:
                self._pong_by = 0.0
                self._ping_at = self.hub.loop.time() + self.hub.options.ping_interval
        elif kind == _CLOSE:
            self.end("client disconnect", frames.NORMAL)
        elif kind != _NOOP:
            self.fail("an unknown Engine.IO packet", frames.POLICY)

    def on_message(self, packet: bytearray) -> None:
        """Takes a message packet.

        Raises:
            BadPacket: the session is to be ended.
        """
        raise NotImplementedError

    def receive_binary(self) -> None:
        """Takes note of a binary packet, which was dropped."""
        raise NotImplementedError

    def resume(self) -> None:
        """The client has read what was waiting for it."""
        raise NotImplementedError

    def hold(self) -> None:
        """Reads nothing more from the client until `release`."""
        self.held = True
        self.carrier.hold()

    def release(self) -> None:
        """Reads on, and gives the client the whole time to answer a ping that it could not answer meanwhile."""
        self.held = False
        if self._pong_by:
            self._pong_by = self.hub.loop.time() + self.hub.options.ping_timeout
        self.carrier.release()

    def change_carrier(self, carrier: Carrier) -> None:
        """Goes on over another carrier."""
        self.carrier = carrier
        if self.held:
            carrier.hold()

    def watch(self, delay: float) -> None:
        """Has the session reviewed in so many seconds."""
        if self.open:
            self.hub.wheel.put(self, delay)

    def review(self, now: float) -> float:
        """Sends the ping that is due, ends what is overdue, and answers when to look again."""
        reason = self.carrier.review(now) or self._review_ping(now)
        if reason:
            self.end(reason)
        if not self.open:
            return 0
        options = self.hub.options
        return min(options.ping_interval, options.ping_timeout, max(self._ping_at - now, 0.01))

    def fail(self, message: str, code: int) -> None:
        """Ends a session whose client broke the protocol."""
        if self.open:
            log.clients.warning("a client broke the protocol: %s", message)
            self.end("bad packet", code)

    def end(self, reason: str, code: int = 0) -> None:
        """Ends the session: the carrier is closed with the websocket code, or aborted without one."""
        if self.open:
            self.open = False
            self.hub.wheel.remove(self)
            if code:
                self.carrier.close(code)
            else:
                self.carrier.abort()

    def _review_ping(self, now: float) -> str:
        options = self.hub.options
        if self._pong_by:
            if now < self._pong_by or self.held:
                return ""
            return "ping timeout"
        if now >= self._ping_at:
            self._pong_by = now + options.ping_timeout
            self._ping_at = now + options.ping_interval
            self.carrier.write(PING)
        return ""
