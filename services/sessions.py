"""The sessions service: where one is logged in, and how to log out there, or everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hooks.context import Params, Record
from hooks.errors import NotFound
from hooks.scopes import person
from services.authentication.ledger import Ledger
from services.base import Service

PATH = "sessions"
SESSIONS_RULES: Mapping[str, str] = {"find": "authenticated", "remove": "authenticated"}


class SessionsService(Service):
    """The caller's own sessions: `{_id, device: {agent, network}, created_at, last_use, expires_at, persistent, current}`.

    `device` is what the last login or refresh came from: the user agent, and the network (/24 or /48) of the address.
    """

    multi = frozenset({"remove"})
    schema: Mapping[str, Any] = {
        "_id": {"type": "string", "required": True},
        "device": {"type": "object", "properties": {"agent": {"type": ["string", "null"]}}},
        "created_at": {"type": "string"},
        "last_use": {"type": "string"},
        "expires_at": {"type": "string"},
        "persistent": {"type": "boolean"},
        "client_id": {"type": "string", "description": "The client for which it came out of another session."},
        "current": {"type": "boolean", "description": "Whether it is the session of the call."},
    }

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def find(self, params: Params) -> list[Record]:
        """The sessions that last, those used last first, at most 100; `current` is that of the call."""
        return [_own(record, params) for record in await self._ledger.find(params.tenant, person(params))]

    async def remove(self, id: Any, params: Params) -> Record | list[Record]:
        """Ends one session; all of them, that of the call too, when the id is None. Live connections are logged out.

        Raises:
            NotFound: the caller has no such session.
        """
        user_id = person(params)
        if id is None:
            return [_own(record, params) for record in await self._ledger.end_all(params.tenant, user_id)]
        if not isinstance(id, str) or not id:
            raise NotFound(f"No record found for id '{str(id)[:64]}'")
        return _own(await self._ledger.end(params.tenant, id, user_id), params)


def _own(record: Record, params: Params) -> Record:
    own = None if params.authentication is None else params.authentication.payload.get("sid")
    shown = {field: value for field, value in record.items() if field != "user_id"}
    return {**shown, "current": own is not None and record["_id"] == own}
