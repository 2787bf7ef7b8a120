"""The relay: events of this node go to its own sockets and to the other nodes; theirs go to the sockets here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hooks.context import Guard, HookContext, Params, Record
from hooks.errors import NotFound
from hooks.tenant import tenant_scope
from server.connections import Connections
from services.application import Application, Deliver, Event
from services.bus.envelope import Bus, Envelope
from services.control.catalogue import Catalogue
from services.publishing import deciding, is_unseen, written


class Relay:
    """`deliver` for what happens here, and the one who hears of what happens elsewhere."""

    def __init__(
        self, app: Application, bus: Bus, deliver: Deliver, *, catalogue: Catalogue, connections: Connections
    ) -> None:
        """`deliver` brings an event to sockets of this node."""
        self._app = app
        self._bus = bus
        self._deliver = deliver
        self._catalogue = catalogue
        self._connections = connections

    async def __call__(self, event: Event) -> None:
        """Sends an event to everybody who may hear of it, on all nodes. Posted first, events keep the order of their calls."""
        if self._bus.is_shared and not self._is_for_nobody(event):
            self._bus.post(_envelope(event))
        outcome = self._deliver(event)
        if outcome is not None:
            await outcome

    def _is_for_nobody(self, event: Event) -> bool:
        path = event.registration.path
        return is_unseen(event.registration, event.name, event.context.data) and not self._app.publishers.has(
            path, event.name
        )

    async def hear(self, envelope: Envelope) -> None:
        """Delivers an event of another node. What decides who hears of it is looked at here, by the sockets that are here."""
        if not self._connections.has(envelope.app_id):
            return
        tenant = await self._catalogue.get(envelope.app_id)
        if tenant is None or not tenant.is_serving:
            return
        try:
            registration, _ = self._app.lookup(tenant, envelope.path)
        except NotFound:
            # A service that is not declared any more, or a plug-in that only other nodes have.
            return
        said = envelope.context
        guard = None if said["seen"] is None else Guard(before=_by_id(said["before"]), after=_by_id(said["seen"]))
        context = HookContext(
            app=self._app,
            service=registration.service,
            path=registration.path,
            method=said["method"],
            params=Params(tenant=tenant, provider=said["provider"], user=said["user"], guard=guard),
            result=envelope.record,
            event=envelope.event,
        )
        with tenant_scope(tenant):
            outcome = self._deliver(Event(registration, envelope.event, envelope.record, context))
            if outcome is not None:
                await outcome


def _envelope(event: Event) -> Envelope:
    """The event with what decides who hears of it, and nothing else: hidden fields stay on this node."""
    context, registration = event.context, event.registration
    id = event.record.get("_id") if isinstance(event.record, Mapping) else None
    seen = written(id, event.record, context)
    before = None
    if seen is not None and context.params.guard is not None:
        before = context.params.guard.before.get(seen.get("_id"))
    return Envelope(
        app_id=event.tenant.id,
        path=registration.path,
        event=event.name,
        record=event.record,
        context={
            "method": context.method,
            "provider": context.params.provider,
            "user": context.params.user,
            "seen": None if seen is None else deciding(registration, seen),
            "before": None if before is None else deciding(registration, before),
        },
    )


def _by_id(record: Record | None) -> dict[Any, Record]:
    return {} if record is None else {record.get("_id"): record}
