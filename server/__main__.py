"""`python -m server`."""

from server.cli import cli

cli(prog_name="python -m server")
