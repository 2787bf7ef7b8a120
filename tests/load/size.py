"""How large the tests of this directory are: `-m load` runs them at a size that takes a minute each, unless told otherwise."""

from __future__ import annotations

import os

FULL = os.environ.get("ROOST_LOAD") == "full"
"""Whether they have the full size, and take the ten minutes, of the list of limits."""
