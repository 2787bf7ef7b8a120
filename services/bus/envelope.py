"""What goes from node to node: an event, and what decides who may hear of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Protocol

import bson
from bson import CodecOptions
from bson.errors import BSONError

_CODEC: CodecOptions[dict[str, Any]] = CodecOptions(tz_aware=True, tzinfo=UTC)
_TEXT = ("app_id", "path", "event")


@dataclass(frozen=True, slots=True)
class Envelope:
    """One event."""

    app_id: str
    path: str
    event: str
    record: Any
    context: Mapping[str, Any]
    """What publishers and the rule of `get` look at: method, id, query, user, result and the guard's records."""

    def seal(self) -> bytes:
        """The event as it travels.

        Raises:
            ValueError: it holds something that BSON does not know.
        """
        try:
            return bson.encode(
                {
                    "app_id": self.app_id,
                    "path": self.path,
                    "event": self.event,
                    "record": self.record,
                    "context": dict(self.context),
                },
                codec_options=_CODEC,
            )
        except (BSONError, TypeError, OverflowError, RecursionError) as error:
            raise ValueError("the event holds what cannot travel") from error


def unseal(body: bytes) -> Envelope:
    """The event in what has travelled.

    Raises:
        ValueError: that is none.
    """
    try:
        values = bson.decode(body, codec_options=_CODEC)
    except (BSONError, TypeError) as error:
        raise ValueError("that is no event") from error
    if values.keys() != {*_TEXT, "record", "context"} or not all(isinstance(values[name], str) for name in _TEXT):
        raise ValueError("that is no event")
    return Envelope(**values)


Hear = Callable[[Envelope], Awaitable[None]]


class Bus(Protocol):
    """Brings events to the other nodes: in the order in which each node posts them, and each at most once."""

    @property
    def is_shared(self) -> bool:
        """Whether there is another node that may want to hear of events."""
        ...

    def post(self, envelope: Envelope) -> None:
        """Takes an event on, and returns at once."""
        ...

    async def start(self, hear: Hear) -> None:
        """Begins to listen, and returns when no event of another node is missed any more."""
        ...

    async def stop(self) -> None:
        """Sends what waits, and ends."""
        ...
