"""The identities service: by which outside accounts one signs in, and how to part with one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hooks.context import Params, Record
from hooks.errors import NotFound
from hooks.scopes import person
from services.authentication.identities import Identities
from services.base import Service

PATH = "identities"
IDENTITIES_RULES: Mapping[str, str] = {"find": "authenticated", "remove": "authenticated"}


class IdentitiesService(Service):
    """The caller's own identities: `{_id, issuer, subject, created_at}`."""

    schema: Mapping[str, Any] = {
        "_id": {"type": "string", "required": True},
        "issuer": {"type": "string", "description": "The identity provider."},
        "subject": {"type": "string", "description": "What the provider calls the user."},
        "created_at": {"type": "string"},
    }

    def __init__(self, identities: Identities) -> None:
        self._identities = identities

    async def find(self, params: Params) -> list[Record]:
        """The identities, the oldest first, at most 100."""
        return await self._identities.find(params.tenant, person(params))

    async def remove(self, id: Any, params: Params) -> Record:
        """Unlinks one: nobody signs in by it as this user any more. Sessions that it has begun go on.

        Raises:
            NotFound: the caller has no such identity. Conflict: he would have no way to sign in.
        """
        user_id = person(params)
        if not isinstance(id, str) or not id:
            raise NotFound("No record found for this id")
        return await self._identities.unlink(params.tenant, id, user_id)
