"""Passwords: argon2id beside the event loop, with a bounded queue before it."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from passlib.hash import argon2

from hooks.errors import BadRequest, TooManyRequests
from services.authentication.idle_hasher import SUPPORTED, Hashes, IdleHasher

SHORTEST = 8
LONGEST = 128
"""How many characters a new password may have. Longer ones are never hashed, so their cost is bounded too."""
MEMORY_KIB = 19 * 1024
ROUNDS = 2
"""What a hash costs: OWASP's least for argon2id."""

_SALT = argon2.default_salt_size
_CHECKSUM = argon2.checksum_size

_Result = TypeVar("_Result")


class Passwords:
    """Hashes and verifies. Nothing here runs on the event loop, and every verification costs the same."""

    def __init__(
        self,
        *,
        memory_kib: int | None = None,
        rounds: int | None = None,
        parallelism: int = 1,
        workers: int | None = None,
        most_waiting: int = 200,
        idle: bool = False,
    ) -> None:
        """`memory_kib` and `rounds` are what a hash costs, `MEMORY_KIB` and `ROUNDS` if not given; `workers` are threads,
        if not given one per core but that of the event loop: with more of them others' calls wait for a core; `most_waiting`
        calls may wait for one. With `idle` each thread has a process that hashes for it when nobody else wants a processor.
        """
        memory_kib, rounds = memory_kib or MEMORY_KIB, rounds or ROUNDS
        self._cost = {"memory_kib": memory_kib, "rounds": rounds, "parallelism": parallelism}
        self._argon2: Any = argon2.using(type="ID", memory_cost=memory_kib, rounds=rounds, parallelism=parallelism)
        workers = workers or max(1, (os.cpu_count() or 1) - 1)
        self._most = workers + most_waiting
        self._pending = 0
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="password", initializer=self._begin)
        self._idle = idle and SUPPORTED
        self._idle_hashers: list[IdleHasher] = []
        self._of_thread = threading.local()
        # What nobody's password hashes to: to try one against it costs as much as any other, and to make it costs nothing.
        self._nothing: str = self._argon2(
            rounds=rounds, salt=secrets.token_bytes(_SALT), checksum=secrets.token_bytes(_CHECKSUM)
        ).to_string()

    async def hash(self, password: object) -> str:
        """The hash of a new password.

        Raises:
            BadRequest: it is not acceptable as a password; the sentence says why.
            TooManyRequests: too many others wait.
        """
        accepted = check_password(password)
        hashed: str = await self._run(lambda: self._hashes().hash(accepted))
        return hashed

    async def verify(self, password: str, hashed: str) -> bool:
        """Whether `hashed` was made of this password. Impossible ones and broken hashes match nothing, at equal cost.

        Raises:
            TooManyRequests: too many others wait.
        """
        possible = _is_possible(password) and self._argon2.identify(hashed)
        tried, against = (password, hashed) if possible else ("", self._nothing)
        matches = await self._run(lambda: self._matches(tried, against))
        return possible and matches

    async def verify_nothing(self, password: str) -> None:
        """Costs what `verify` costs: for users that do not exist.

        Raises:
            TooManyRequests: too many others wait.
        """
        await self.verify(password, self._nothing)

    def close(self) -> None:
        """Ends the threads and their processes; calls that still wait are cancelled."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for hasher in self._idle_hashers:
            hasher.close()

    def _begin(self) -> None:
        """Lets this thread have what the event loop leaves of the processor; on Linux a priority is a thread's own."""
        if sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
        if self._idle:
            self._of_thread.hashes = IdleHasher(self._argon2, **self._cost)
            self._idle_hashers.append(self._of_thread.hashes)

    def _hashes(self) -> Hashes:
        hashes: Hashes = getattr(self._of_thread, "hashes", self._argon2)
        return hashes

    def _matches(self, password: str, hashed: str) -> bool:
        try:
            return self._hashes().verify(password, hashed)
        except ValueError:
            # A hash with the right prefix and nothing sensible behind it.
            return self._hashes().verify("", self._nothing)

    async def _run(self, work: Callable[[], _Result]) -> _Result:
        if self._pending >= self._most:
            raise TooManyRequests("Too many people log in at this moment: try again in a few seconds")
        self._pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._pending -= 1


def check_password(password: object) -> str:
    """A new password as it is.

    Raises:
        BadRequest: it is no text, too short, too long, or has characters that nobody can type.
    """
    if not isinstance(password, str):
        raise BadRequest("The password must be a text")
    if not SHORTEST <= len(password) <= LONGEST:
        raise BadRequest(f"The password must have {SHORTEST} to {LONGEST} characters")
    if not _is_possible(password):
        raise BadRequest("The password contains characters that are not allowed")
    return password


def _is_possible(password: str) -> bool:
    return len(password) <= LONGEST and not any(char == "\0" or "\ud800" <= char <= "\udfff" for char in password)
