"""The ways in which a Socket.IO client may connect."""

from __future__ import annotations

import pytest

each_transport = pytest.mark.parametrize(
    "transports",
    [["polling", "websocket"], ["websocket"], ["polling"]],
    ids=["upgrade", "websocket", "polling"],
)
"""The default, which begins with polling and upgrades; and each alone."""
