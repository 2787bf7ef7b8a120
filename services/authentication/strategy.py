"""What a way of logging in has to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from hooks.context import Authentication, Params, Record


@dataclass(frozen=True, slots=True)
class Proof:
    """Who somebody has proved to be. `login` is set when an access token was the proof; else a token is issued."""

    user: Record
    login: Authentication | None = None


class Strategy(Protocol):
    """One way of logging in."""

    async def authenticate(self, data: Mapping[str, Any], params: Params) -> Proof:
        """Checks what a client sent. `data` is a JSON object with any values; only `strategy` in it is checked.

        Raises:
            NotAuthenticated: it proves nothing.
        """
        ...
