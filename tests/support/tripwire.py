"""The fourth guard: the product's tripwire, which in tests shows the whole of a command that is not tied to one tenant."""

from __future__ import annotations

from pymongo.monitoring import CommandStartedEvent

from services.database import tripwire
from services.database.tripwire import is_tied, parts

__all__ = ["Tripwire", "is_tied", "parts"]


class Tripwire(tripwire.Tripwire):
    """As it is heard in tests, where all data is made up."""

    def describe(self, event: CommandStartedEvent) -> str:
        """With its values."""
        return f"{event.database_name}: {dict(event.command)!r}"[:500]
