"""Publishers: functions that choose the channels of an event, at four levels; without one, the read rule chooses."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from hooks.context import HookContext
from hooks.permit import rule_for
from services.channels import AUTHENTICATED, EVERYONE, Channel, Channels, room_channel
from services.registration import Registration

Publisher = Callable[[Any, HookContext], Any | Awaitable[Any]]
"""`(record, context) -> Channel | list of channels, nested lists and None | None`, also async."""

ALL_EVENTS = ""
_AUDIENCES = {"public": EVERYONE, "authenticated": AUTHENTICATED}


class ForeignChannel(Exception):
    """A publisher chose a channel of another tenant. The event is not sent."""


class Publishers:
    """One publisher per slot; a second registration replaces the first."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        self._slots: dict[tuple[str, str], Publisher] = {}

    def add(self, path: str, event: str, publisher: Publisher) -> None:
        """Registers a publisher; the empty path means all services, the empty event all events."""
        self._slots[path, event] = publisher

    def has(self, path: str, event: str) -> bool:
        """Whether a publisher chooses who hears of this event, instead of the rule of `get`."""
        return any(slot in self._slots for slot in _slots(path, event))

    async def choose(self, registration: Registration, event: str, record: Any, context: HookContext) -> list[Channel]:
        """The channels that hear of an event: service+event, service, app+event, app; else by the rule of `get`.

        Raises:
            ForeignChannel: a channel of another tenant was chosen.
        """
        for slot in _slots(registration.path, event) if self._slots else ():
            publisher = self._slots.get(slot)
            if publisher is not None:
                chosen = publisher(record, context)
                if inspect.isawaitable(chosen):
                    chosen = await chosen
                return _own(_flatten(chosen), context.tenant.id)
        return self._by_rule(registration, context.tenant.id, record)

    def _by_rule(self, registration: Registration, tenant_id: str, record: Any) -> list[Channel]:
        rule = rule_for(registration.rules, "get")
        name = _AUDIENCES.get(rule) if isinstance(rule, str) else None
        if name is None:
            return []
        if registration.rooms is None:
            return [Channel(self._channels, tenant_id, (name,))]
        room = record.get(registration.rooms.by) if isinstance(record, Mapping) else None
        channel = room_channel(registration.path, room)
        if channel is None:
            return []
        # Who joined as one who may read can have been logged out since.
        return [Channel(self._channels, tenant_id, (channel,), lambda member: name in member.channels)]


def _slots(path: str, event: str) -> Iterator[tuple[str, str]]:
    yield path, event
    yield path, ALL_EVENTS
    yield "", event
    yield "", ALL_EVENTS


def _flatten(chosen: Any) -> Iterator[Channel]:
    if chosen is None:
        return
    if isinstance(chosen, Channel):
        yield chosen
    elif isinstance(chosen, (list, tuple)):
        for one in chosen:
            yield from _flatten(one)
    else:
        raise TypeError(f"A publisher returns channels, lists of them or None, not {type(chosen).__name__}")


def _own(channels: Iterator[Channel], tenant_id: str) -> list[Channel]:
    chosen = [*channels]
    if any(channel.tenant_id != tenant_id for channel in chosen):
        raise ForeignChannel()
    return chosen
