"""Publishing: an event goes to channels of its tenant, from there to sockets. The only module that sends events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import cast

from hooks.tenant import Tenant
from server.connection import Connection
from server.connections import Ending
from server.engine import Frame
from services.application import Event
from services.publishing import Publishers

AT_ONCE = 250
"""Sockets that are written to before others may go on: about two milliseconds."""

Sent = Callable[[Event, int], None]
"""Hears of an event, and of how many sockets it was sent to."""


@dataclass(slots=True)
class _Turn:
    """The order of a tenant's events while there is a large one."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0


class Publisher:
    """Sends each event to the members of the channels that its publisher chose, encoded once for all who get the same.

    An event for many is sent to some of them at a time, so that no tenant holds up the others; further events of the tenant
    wait for it, and so arrive in order.
    """

    def __init__(self, publishers: Publishers, *sent: Sent) -> None:
        """`sent` are those who want to know of each event that has gone out."""
        self._publishers = publishers
        self._sent = sent
        self._busy: dict[str, _Turn] = {}

    async def __call__(self, event: Event) -> None:
        """Sends `'<path> <event>'` with one argument: the group's own data if it has any, else the record.

        Who is in several of the groups gets the event once, with the data of the first.
        """
        path = event.registration.path
        groups = await self._publishers.choose(event.registration, event.name, event.record, event.context)
        shared = Frame(f"{path} {event.name}", event.record)
        reached: dict[Connection, Frame] = {}
        for group in groups:
            is_shared = group.event == event.name and group.data is event.record
            frame = shared if is_shared else Frame(f"{path} {group.event}", group.data)
            for member in cast("Iterable[Connection]", group.connections):
                # Who has gone on in another tenant since it was chosen hears nothing of this one.
                if member.tenant.id == event.tenant.id:
                    reached.setdefault(member, frame)
        tenant = event.tenant
        if not reached:
            return
        if len(reached) <= AT_ONCE and tenant.id not in self._busy:
            for member, frame in reached.items():
                member.socket.write(frame)
        else:
            await self._send_in_turns(tenant.id, reached)
        for hear in self._sent:
            hear(event, len(reached))

    async def _send_in_turns(self, tenant_id: str, reached: Mapping[Connection, Frame]) -> None:
        """Sends to some, lets others go on, and comes back; whoever has become somebody else meanwhile gets nothing."""
        turn = self._busy.setdefault(tenant_id, _Turn())
        turn.waiting += 1
        members = [(member, _identity(member), frame) for member, frame in reached.items()]
        try:
            async with turn.lock:
                for start in range(0, len(members), AT_ONCE):
                    for member, identity, frame in members[start : start + AT_ONCE]:
                        if _identity(member) == identity:
                            member.socket.write(frame)
                    await let_others()
        finally:
            turn.waiting -= 1
            if not turn.waiting:
                del self._busy[tenant_id]


async def let_others() -> None:
    """Gives everybody else a turn of the loop."""
    await asyncio.sleep(0)


def _identity(member: Connection) -> tuple[str, str | None]:
    """Who a connection is, as long as it is that."""
    login = member.authentication
    return member.tenant.id, None if login is None else login.payload.get("sub")


def tell_ending(connection: Connection, reason: Ending) -> None:
    """Tells a client that its login is over although it has not logged out: `'authentication removed'`, to it alone."""
    connection.socket.write(Frame("authentication removed", {"reason": reason}))


def dismiss(connection: Connection, tenant: Tenant) -> None:
    """Disconnects a client of an app that is out of service, after a last event that says why."""
    name = "tenant:unavailable" if tenant.is_active else "tenant:inactive"
    reason = "TenantUnavailable" if tenant.is_active else "TenantInactive"
    connection.socket.write(Frame(name, {"reason": reason, "state": tenant.status}))
    connection.socket.dismiss()
