"""`python -m server`."""

from __future__ import annotations

import gc

# Whatever the modules make stays: looking for garbage in it takes a fifth of the time that a command needs to begin.
gc.disable()

from server.cli import cli  # noqa: E402

gc.freeze()
gc.enable()
cli(prog_name="python -m server")
