"""The command line: `python -m server`. Every command works beside a running server and takes effect in it."""

from __future__ import annotations

from server.cli.main import cli

__all__ = ["cli"]
