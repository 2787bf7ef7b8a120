"""Publishing: an event goes to channels of its tenant, from there to sockets. The only module that sends events."""

from __future__ import annotations

from collections.abc import Sequence

from hooks.permit import rule_for
from server.channels import AUTHENTICATED, EVERYONE, Channels
from server.engine import Frame
from services.application import Event
from services.registration import Registration

_AUDIENCES = {"public": (EVERYONE,), "authenticated": (AUTHENTICATED,)}


class Publisher:
    """Sends each event, encoded once, to those of the tenant whom the service's read rule admits."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels

    async def __call__(self, event: Event) -> None:
        """Sends `'<path> <event>'` with the record as its one argument."""
        frame = Frame(f"{event.registration.path} {event.name}", event.record)
        for connection in self._channels.members(event.tenant.id, audience(event.registration)):
            await connection.socket.send(frame)


def audience(registration: Registration) -> Sequence[str]:
    """The channels that hear of a service's events: those of whom the rule of `get` admits all."""
    rule = rule_for(registration.rules, "get")
    return _AUDIENCES.get(rule, ()) if isinstance(rule, str) else ()
