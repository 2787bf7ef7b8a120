"""A program that hashes passwords when nobody else wants a processor: `python hasher.py MEMORY_KIB ROUNDS PARALLELISM`.

It says `null` when it is ready. Each line is a question: `["hash", password]`, answered by a line with the hash, or
`["verify", password, hash]`, answered by whether they match, or by `null` if that is no hash. It ends with its input.

Nothing of Roost is imported, so it starts within a fifth of a second and its memory is little more than what a hash takes.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from passlib.hash import argon2


def main(memory_kib: str, rounds: str, parallelism: str) -> None:
    """Answers until nobody asks any more."""
    # Ctrl-C reaches all processes of a terminal: when to end is the server's to say, by closing the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    hashes = argon2.using(type="ID", memory_cost=int(memory_kib), rounds=int(rounds), parallelism=int(parallelism))
    answer: str | bool | None = None
    while True:
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()
        question = sys.stdin.readline()
        if not question:
            return
        act, *words = json.loads(question)
        try:
            answer = hashes.hash(*words) if act == "hash" else hashes.verify(*words)
        except ValueError:
            answer = None


if __name__ == "__main__":
    main(*sys.argv[1:])
