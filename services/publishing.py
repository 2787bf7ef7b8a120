"""Publishers: functions that choose the channels of an event, at four levels; without one, the read rule chooses."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from hooks.context import UNSET, Connection, HookContext, Record
from hooks.tenancy import FIELD
from services.channels import Channel, Channels, room_channel
from services.readers import Readers
from services.registration import Registration

Publisher = Callable[[Any, HookContext], Any | Awaitable[Any]]
"""`(record, context) -> Channel | list of channels, nested lists and None | None`, also async."""

ALL_EVENTS = ""


class Group(NamedTuple):
    """Connections that are sent the same: the event's name and its data. They are there to be gone through once."""

    event: str
    data: Any
    connections: Iterable[Connection]


class ForeignChannel(Exception):
    """A publisher chose a channel of another tenant. The event is not sent."""


class Publishers:
    """One publisher per slot; a second registration replaces the first."""

    def __init__(self, channels: Channels, readers: Readers) -> None:
        self._channels = channels
        self._readers = readers
        self._slots: dict[tuple[str, str], Publisher] = {}

    def add(self, path: str, event: str, publisher: Publisher) -> None:
        """Registers a publisher; the empty path means all services, the empty event all events."""
        self._slots[path, event] = publisher

    def has(self, path: str, event: str) -> bool:
        """Whether a publisher chooses who hears of this event, instead of the rule of `get`."""
        return any(slot in self._slots for slot in _slots(path, event))

    async def choose(self, registration: Registration, event: str, record: Any, context: HookContext) -> list[Group]:
        """Who hears of an event: by the publisher of service+event, service, app+event, app; else by the rule of `get`.

        By the rule, an event is heard by those who may get the record at this moment; those who could before it was
        changed hear `removed`, with its id alone.

        Raises:
            ForeignChannel: a channel of another tenant was chosen.
        """
        for slot in _slots(registration.path, event) if self._slots else ():
            publisher = self._slots.get(slot)
            if publisher is not None:
                chosen = publisher(record, context)
                if inspect.isawaitable(chosen):
                    chosen = await chosen
                return [
                    Group(event, record if channel.data is UNSET else channel.data, channel.connections)
                    for channel in _own(_flatten(chosen), context.tenant.id)
                ]
        if is_unseen(registration, event, context.data):
            return []
        if registration.audience.channel is None:
            return self._by_record(registration, event, record, context)
        return [Group(event, record, self._members(registration, context.tenant.id, record))]

    def _members(self, registration: Registration, tenant_id: str, record: Any) -> Iterable[Connection]:
        """All whom a rule that is one word admits."""
        name = registration.audience.channel
        assert name is not None
        if registration.rooms is None:
            return self._channels.members(tenant_id, (name,))
        room = _room(registration, record)
        if room is None:
            return []
        # Who joined as one who may read can have been logged out since.
        return [member for member in self._channels.members(tenant_id, (room,)) if name in member.channels]

    def _by_record(self, registration: Registration, event: str, record: Any, context: HookContext) -> list[Group]:
        guard = context.params.guard
        id = record.get("_id") if isinstance(record, Mapping) else None
        seen = written(id, record, context)
        if seen is None:
            return []
        readers = self._readers_of(registration, context.tenant.id, seen)
        groups = [Group(event, record, _in_room(registration, seen, readers))]
        before = None if guard is None else guard.before.get(seen.get("_id"))
        if before is not None:
            still = set(readers)
            left = [one for one in self._readers_of(registration, context.tenant.id, before) if one not in still]
            groups.append(Group("removed", _id_of(registration, before), _in_room(registration, before, left)))
        return groups

    def _readers_of(self, registration: Registration, tenant_id: str, record: Record) -> list[Connection]:
        return registration.audience.of(record, tenant_id, self._channels, self._readers)


def written(id: Any, record: Any, context: HookContext) -> Record | None:
    """The record of an event as it is kept, whatever hooks have made of it; None when nobody can tell."""
    guard = context.params.guard
    if guard is None or not guard.after:
        kept = context.result if isinstance(context.result, Mapping) else record
        return dict(kept) if isinstance(kept, Mapping) else None
    if len(guard.after) == 1:
        return next(iter(guard.after.values()))
    return guard.after.get(id)


def is_unseen(registration: Registration, event: str, data: Any) -> bool:
    """Whether a patch has changed nothing but hidden fields: an event would tell that it did."""
    if not registration.hidden or event != "patched" or not isinstance(data, Mapping):
        return False
    changes = [path for key, value in data.items() for path in (value if key[:1] == "$" else (key,))]
    fields = {path.partition(".")[0] for path in changes} - {FIELD}
    return bool(fields) and fields <= registration.hidden and fields.isdisjoint(registration.audience.fields)


def deciding(registration: Registration, record: Record) -> Record:
    """What of a record decides who hears of it, and its id."""
    fields = {path.partition(".")[0] for path in registration.audience.fields} | {*_id_of(registration, record)}
    if registration.rooms is not None:
        fields.add(registration.rooms.by)
    return {field: record[field] for field in fields if field in record}


def _room(registration: Registration, record: Any) -> str | None:
    assert registration.rooms is not None
    room = record.get(registration.rooms.by) if isinstance(record, Mapping) else None
    return room_channel(registration.path, room)


def _in_room(registration: Registration, record: Record, readers: list[Connection]) -> list[Connection]:
    if registration.rooms is None:
        return readers
    room = _room(registration, record)
    return [] if room is None else [reader for reader in readers if room in reader.channels]


def _id_of(registration: Registration, record: Record) -> Record:
    return {name: record[name] for name in ("_id", getattr(registration.service, "id", "_id")) if name in record}


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
