"""What makes a write safe to send twice: a session of the server's, and a number in it."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from bson.binary import Binary
from bson.int64 import Int64


class WriteSession:
    """A logical session that one write at a time uses; a number is never used for two writes."""

    __slots__ = ("_number", "lsid")

    def __init__(self) -> None:
        #: The session's id, as commands carry it.
        self.lsid: dict[str, Any] = {"id": Binary.from_uuid(uuid4())}
        self._number = 0

    def next_number(self) -> Int64:
        """The number of the next write; the server does each number once and answers it again when it is repeated."""
        self._number += 1
        return Int64(self._number)


class WriteSessions:
    """Sessions that are free. One that saw an error is not given back: the server may still be at work in it."""

    # The server keeps at most so many for one `endSessions`.
    _MOST = 10_000

    def __init__(self) -> None:
        self._free: list[WriteSession] = []

    def take(self) -> WriteSession:
        """A free session, or a new one."""
        return self._free.pop() if self._free else WriteSession()

    def give(self, session: WriteSession) -> None:
        """The session's write has been answered."""
        self._free.append(session)

    def drain(self) -> list[dict[str, Any]]:
        """The ids of all free sessions, which are forgotten."""
        ids = [session.lsid for session in self._free[: self._MOST]]
        self._free.clear()
        return ids
