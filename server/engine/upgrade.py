"""The change of a session from polling to a websocket."""

from __future__ import annotations

from server.engine import frames, log
from server.engine.hub import Hub
from server.engine.polling import Polling
from server.engine.websocket import WebSocket

_PROBE = b"2probe"
_PROBED = b"3probe"
_UPGRADE = b"5"


class Upgrade:
    """Receives what comes over the new websocket until the client has changed over, which it must do in good time."""

    def __init__(self, hub: Hub, polling: Polling) -> None:
        self.websocket = WebSocket(hub)
        self.slot = 0
        self._hub = hub
        self._polling = polling
        self._over = False
        polling.on_close = self._polling_closed
        hub.wheel.put(self, hub.options.handshake_timeout)

    def receive(self, packet: bytearray) -> None:
        if not self._polling.upgrading and packet == _PROBE:
            self._polling.upgrading = True
            self.websocket.write(_PROBED)
            self._polling.wake()
        elif self._polling.upgrading and packet == _UPGRADE:
            self._change_over()
        else:
            self.fail("an upgrade out of order", frames.POLICY)

    def receive_binary(self) -> None:
        self.fail("a binary message before the upgrade", frames.POLICY)

    def resume(self) -> None:
        """Nothing waits."""

    def watch(self, delay: float) -> None:
        """The time is limited anyway."""

    def review(self, now: float) -> float:
        self.end("upgrade timeout", frames.POLICY)
        return 0

    def fail(self, message: str, code: int) -> None:
        log.clients.warning("a client broke the protocol: %s", message)
        self.end("bad packet", code)

    def end(self, reason: str, code: int = 0) -> None:
        """Gives the upgrade up; the session goes on by polling."""
        if self._finish():
            self._polling.upgrading = False
            if code:
                self.websocket.close(code)
            else:
                self.websocket.abort()

    def _change_over(self) -> None:
        self._finish()
        session, websocket = self._polling.session, self.websocket
        websocket.receiver = session
        session.change_carrier(websocket)
        for packet in self._polling.take_outgoing():
            websocket.write(packet.encode())
        self._polling.abort()

    def _polling_closed(self) -> None:
        self.end("transport close", frames.GOING_AWAY)

    def _finish(self) -> bool:
        if self._over:
            return False
        self._over = True
        self._polling.on_close = None
        self._hub.wheel.remove(self)
        return True
