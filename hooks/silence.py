"""Silence: calls that no event follows."""

from __future__ import annotations

from hooks.context import HookContext


def silence(context: HookContext) -> None:
    """A before hook: the call sends no event."""
    context.event = None
