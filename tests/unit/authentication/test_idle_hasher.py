"""IdleHasher: a process of the lowest priority hashes, and whatever becomes of it every question is answered."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from passlib.hash import argon2

from services.authentication import idle_hasher
from services.authentication.idle_hasher import IdleHasher
from services.authentication.passwords import Passwords

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only there processes have such a priority")
COST = {"memory_kib": 64, "rounds": 1, "parallelism": 1}
GOOD = "correct horse \u00e4\U0001f600"


class Here:
    """Hashes in this process, and counts."""

    def __init__(self) -> None:
        self.hashes = argon2.using(type="ID", memory_cost=64, rounds=1, parallelism=1)
        self.count = 0

    def hash(self, password: str) -> str:
        self.count += 1
        return str(self.hashes.hash(password))

    def verify(self, password: str, hashed: str) -> bool:
        self.count += 1
        return bool(self.hashes.verify(password, hashed))


class Told(IdleHasher):
    """An idle hasher whose process can be got at."""

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def wait(self) -> None:
        """Until the process is ready, or has answered, or has ended."""
        deadline = time.monotonic() + 60
        while self._process is not None and self._is_owed:
            assert time.monotonic() < deadline, "the process does not answer"
            if not self._read(self._process, 60):
                continue


@pytest.fixture
def here() -> Here:
    return Here()


@pytest.fixture
def hasher(here: Here, monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    """One whose process is ready, and has time."""
    monkeypatch.setattr(idle_hasher, "PATIENCE", 60.0)
    made = Told(here, **COST)
    made.hash(GOOD)
    assert here.count == 1, "until the process is ready, nobody waits for it"
    made.wait()
    here.count = 0
    yield made
    made.close()


def test_the_process_makes_and_verifies_hashes(hasher: Told, here: Here) -> None:
    hashed = hasher.hash(GOOD)
    assert "$m=64,t=1,p=1$" in hashed, "it costs what it is to cost"
    assert hasher.verify(GOOD, hashed)
    assert not hasher.verify(GOOD + "x", hashed)
    assert here.count == 0
    assert here.verify(GOOD, hashed)


def test_no_hash_is_refused_as_here(hasher: Told) -> None:
    with pytest.raises(ValueError, match="argon2"):
        hasher.verify(GOOD, "no hash")
    assert hasher.hash(GOOD)


def test_the_process_has_the_lowest_priority_and_no_secrets(hasher: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    assert os.sched_getscheduler(hasher.process.pid) == os.SCHED_IDLE
    hasher.close()
    monkeypatch.setenv("ROOST_MASTER_KEY", "secret")
    monkeypatch.setenv("URI_OF_A_CLUSTER", "secret")
    other = Told(Here(), **COST)
    other.hash(GOOD)
    try:
        assert b"secret" not in Path(f"/proc/{other.process.pid}/environ").read_bytes()
    finally:
        other.close()


def test_who_is_late_is_not_waited_for_and_comes_back(
    hasher: Told, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle_hasher, "PATIENCE", 0.01)
    hasher.process.send_signal(signal.SIGSTOP)
    hashed = hasher.hash(GOOD)
    assert here.count == 1
    monkeypatch.setattr(idle_hasher, "PATIENCE", 60.0)
    assert hasher.verify(GOOD, hashed), "it still owes an answer, and is not asked: this would wait for a minute"
    assert here.count == 2
    hasher.process.send_signal(signal.SIGCONT)
    hasher.wait()
    assert hasher.verify(GOOD, hashed), "nobody gets the answer to another question"
    assert not hasher.verify("another one", hashed)
    assert here.count == 2


def test_a_process_that_ended_is_replaced_after_a_while(
    hasher: Told, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = hasher.process
    first.kill()
    first.wait()
    assert here.verify(GOOD, hasher.hash(GOOD))
    assert hasher.hash(GOOD)
    assert hasher._process is None, "not at once: it may end again and again"
    monkeypatch.setattr(hasher, "_not_before", 0.0)
    hasher.hash(GOOD)
    hasher.wait()
    before = here.count
    assert hasher.hash(GOOD)
    assert (here.count, hasher.process.pid != first.pid) == (before, True)


def test_a_process_that_cannot_start_is_done_without(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    hasher = IdleHasher(here, **COST)
    assert here.verify(GOOD, hasher.hash(GOOD))
    hasher.close()


def test_a_process_that_talks_nonsense_is_done_without(here: Here) -> None:
    hasher = Told(here, **COST)
    program = "print(None, flush=True); input(); print(None, flush=True); input()"
    hasher._command = (sys.executable, "-P", "-c", program)
    hasher.hash(GOOD)
    hasher.wait()
    assert here.verify(GOOD, hasher.hash(GOOD))
    assert hasher._process is None


def test_closing_ends_the_process_and_whoever_waits_for_it(hasher: Told, here: Here) -> None:
    process = hasher.process
    process.send_signal(signal.SIGSTOP)
    answers: list[str] = []
    waiting = threading.Thread(target=lambda: answers.append(hasher.hash(GOOD)))
    waiting.start()
    while not hasher._is_owed:
        time.sleep(0.001)
    hasher.close()
    waiting.join(30)
    assert here.verify(GOOD, answers[0])
    assert process.returncode == -signal.SIGKILL


def test_a_closed_one_goes_on_without_a_process(hasher: Told, here: Here) -> None:
    hasher.close()
    assert here.verify(GOOD, hasher.hash(GOOD))
    assert hasher._process is None


def test_the_process_ends_with_whoever_asked(tmp_path: Path) -> None:
    """Also by kill -9: nobody is left to end it."""
    program = (
        "import os, sys, signal\n"
        "from passlib.hash import argon2\n"
        "from services.authentication.idle_hasher import IdleHasher\n"
        "hasher = IdleHasher(argon2, memory_kib=64, rounds=1, parallelism=1)\n"
        "hasher._ask('hash', 'x')\n"
        "print(hasher._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    ).stdout
    child = Path(f"/proc/{int(out)}/cmdline")
    deadline = time.monotonic() + 60
    while child.exists() and b"hasher.py" in child.read_bytes():
        assert time.monotonic() < deadline, "it lives on"
        time.sleep(0.01)


async def test_passwords_are_hashed_there(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nobody(Here):
        def hash(self, password: str) -> str:
            raise AssertionError("nothing is hashed here")

        def verify(self, password: str, hashed: str) -> bool:
            raise AssertionError("nothing is hashed here")

    monkeypatch.setattr(idle_hasher, "PATIENCE", 60.0)
    passwords = Passwords(**COST, workers=1, idle=True)
    try:
        await passwords.hash("long enough")
        (hasher,) = passwords._idle_hashers
        while hasher._is_owed:
            await passwords.verify_nothing("long enough")
        hasher._here = Nobody()
        hashed = await passwords.hash("long enough")
        assert await passwords.verify("long enough", hashed)
        assert not await passwords.verify("long enouph", hashed)
    finally:
        passwords.close()
    assert hasher._process is None
