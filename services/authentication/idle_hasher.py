"""Hashing in a process that the system runs when nobody else wants a processor, and here when that one is late.

A thread of such low priority would not do: on a busy machine it may not get on for minutes, and if that happens while it
has the interpreter's lock, or is to have it, the event loop would wait as long (ADR 63).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from typing import Any, Protocol

import structlog

from services.authentication import hasher

SUPPORTED = sys.platform == "linux"
PATIENCE = 0.25
"""Seconds for an answer; a hash takes about a tenth of that. Who is late is not asked again before he has answered."""
PAUSE = 10.0
"""Seconds after the end of a process before the next one is started."""
_LONGEST = 4096
"""Bytes of a question or an answer, at most: so many go through a pipe in one piece."""
_ENVIRONMENT = ("PATH", "PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH")
"""What the process needs of the server's environment, which has keys and addresses of databases."""

log = structlog.get_logger()


class Hashes(Protocol):
    """What passlib's hashes can do."""

    def hash(self, password: str) -> str:
        """The hash of a password."""
        ...

    def verify(self, password: str, hashed: str) -> bool:
        """Whether `hashed` was made of this password.

        Raises:
            ValueError: it is no hash.
        """
        ...


class IdleHasher:
    """Hashes for one thread, which waits meanwhile. Whatever becomes of the process, every question is answered."""

    def __init__(self, here: Hashes, *, memory_kib: int, rounds: int, parallelism: int) -> None:
        """`here` hashes what the process does not, at the same cost. The first question starts the process."""
        self._here = here
        self._command = (sys.executable, "-P", hasher.__file__, *map(str, (memory_kib, rounds, parallelism)))
        self._process: subprocess.Popen[bytes] | None = None
        self._is_owed = False
        self._not_before = 0.0
        self._is_closed = False
        self._asking = threading.Lock()

    def hash(self, password: str) -> str:
        """The hash of a password."""
        answer = self._ask("hash", password)
        return answer if isinstance(answer, str) else self._here.hash(password)

    def verify(self, password: str, hashed: str) -> bool:
        """Whether `hashed` was made of this password.

        Raises:
            ValueError: it is no hash.
        """
        answer = self._ask("verify", password, hashed)
        return answer if isinstance(answer, bool) else self._here.verify(password, hashed)

    def close(self) -> None:
        """Ends the process, from any thread. What it was asked is hashed here, and so is what comes later."""
        self._is_closed = True
        process = self._process
        if process is not None:
            # Whoever waits for its answer then waits no longer.
            process.kill()
        with self._asking:
            self._end()

    def _ask(self, *question: str) -> Any:
        with self._asking:
            try:
                process = self._process or self._start()
                if process is None or (self._is_owed and not self._read(process, 0.0)):
                    return None
                self._write(process, question)
                return json.loads(self._read(process, PATIENCE) or b"null")
            except (OSError, EOFError, ValueError) as error:
                if not self._is_closed:
                    log.warning("the process that hashes is done without", error=repr(error))
                self._not_before = time.monotonic() + PAUSE
                self._end()
                return None

    def _start(self) -> subprocess.Popen[bytes] | None:
        if self._is_closed or time.monotonic() < self._not_before:
            return None
        own = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env=own
        )
        # It says when it is ready.
        self._is_owed = True
        return self._process

    def _write(self, process: subprocess.Popen[bytes], question: tuple[str, ...]) -> None:
        assert process.stdin is not None
        process.stdin.write(json.dumps(question).encode() + b"\n")
        self._is_owed = True

    def _read(self, process: subprocess.Popen[bytes], seconds: float) -> bytes:
        """The line that is owed, or nothing if it does not come within so many seconds.

        Raises:
            EOFError: the process has ended.
        """
        assert process.stdout is not None
        poll = select.poll()
        poll.register(process.stdout, select.POLLIN)
        if not poll.poll(seconds * 1000):
            return b""
        line = os.read(process.stdout.fileno(), _LONGEST)
        if not line:
            raise EOFError
        self._is_owed = False
        return line

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        # On a busy machine one of its priority may not even get to its end.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1)
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()
