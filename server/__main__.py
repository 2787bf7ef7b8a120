"""`python -m server`."""

from __future__ import annotations

from server.cli import cli

cli(prog_name="python -m server")
