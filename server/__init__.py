"""How calls come in and events go out. May import `services` and `hooks`."""

from __future__ import annotations

__version__ = "0.1.0"
