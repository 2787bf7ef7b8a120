"""What the tests of tenancy share: a server for whole tables."""

from __future__ import annotations

from tests.integration.server.conftest import shared

__all__ = ["shared"]
