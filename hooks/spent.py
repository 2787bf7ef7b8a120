"""What the database spends on a call: measured for calls that ask for it, so that others pay nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Spent:
    """Seconds from sending commands to their replies, of all of a call's, without waiting for a connection."""

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds = 0.0


meter: ContextVar[Spent | None] = ContextVar("roost_spent", default=None)
"""Where whoever sends a command adds what it took."""


@contextmanager
def measured() -> Iterator[Spent]:
    """What is spent inside of the block."""
    spent = Spent()
    token = meter.set(spent)
    try:
        yield spent
    finally:
        meter.reset(token)
