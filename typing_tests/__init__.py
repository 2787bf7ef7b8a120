"""Files that a type checker reads and nobody runs."""

from __future__ import annotations
