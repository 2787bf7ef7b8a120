"""What the tests of the control plane share: a server for whole tables, and the variables of one that is a process."""

from __future__ import annotations

from tests.integration.server.conftest import env, shared

__all__ = ["env", "shared"]
