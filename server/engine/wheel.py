"""One timer for all time-outs of all sockets."""

from __future__ import annotations

import asyncio
from typing import Protocol

STEP = 0.25
"""Seconds by which a review may come late."""


class Member(Protocol):
    """What the wheel reviews."""

    slot: int
    """The wheel's; 0 while the member is not on it."""

    def review(self, now: float) -> float:
        """Looks at what is due. Answers after how many seconds to look again; 0 means not again."""
        ...


class Wheel:
    """Members in the order in which they are due, reviewed by a single timer that rests while there are none."""

    def __init__(self) -> None:
        # Kept, since to ask for the running loop is a system call: it looks whether the process is still the same.
        self._loop = asyncio.get_running_loop()
        self._slots: dict[int, dict[Member, None]] = {}
        self._reached = 0
        self._timer: asyncio.TimerHandle | None = None

    def put(self, member: Member, delay: float) -> None:
        """Has the member reviewed in so many seconds, instead of whenever it was to be before."""
        now = self._loop.time()
        self.remove(member)
        if self._timer is None:
            self._reached = int(now / STEP)
            self._timer = self._loop.call_later(STEP, self._turn)
        slot = max(int((now + delay) / STEP), self._reached) + 1
        member.slot = slot
        self._slots.setdefault(slot, {})[member] = None

    def remove(self, member: Member) -> None:
        """Takes the member off the wheel; one that is not on it stays off."""
        members = self._slots.get(member.slot)
        if members is not None:
            members.pop(member, None)
            if not members:
                del self._slots[member.slot]
        member.slot = 0

    def _turn(self) -> None:
        now = self._loop.time()
        until = int(now / STEP)
        while self._reached < until:
            self._reached += 1
            for member in [*self._slots.pop(self._reached, ())]:
                if member.slot == self._reached:
                    member.slot = 0
                    delay = member.review(now)
                    if delay > 0 and not member.slot:
                        self.put(member, delay)
        self._timer = self._loop.call_later(STEP, self._turn) if self._slots else None
