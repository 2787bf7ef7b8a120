"""What a way of logging in has to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from hooks.context import Authentication, Params, Record
from hooks.tenant import Tenant
from services.authentication.ledger import Session


@dataclass(frozen=True, slots=True)
class Proof:
    """Who somebody has proved to be. Of `user` only the `_id` counts, unless `login` is set."""

    user: Record
    login: Authentication | None = None
    """Set when an access token was the proof; else one is issued."""
    session: Session | None = None
    """Set when the proof belongs to a session that exists; else one is begun."""
    principal: Record | None = None
    """With `login`: the user as rules see him, if that is another record than `user`."""
    tenant: Tenant | None = None
    """With `login`: set when a live connection goes on in this tenant, which may be another than before."""


class Strategy(Protocol):
    """One way of logging in."""

    async def authenticate(self, data: Mapping[str, Any], params: Params) -> Proof:
        """Checks what a client sent. `data` is a JSON object with any values; only `strategy` in it is checked.

        Raises:
            NotAuthenticated: it proves nothing.
        """
        ...
