"""The directory: finds users inside the tenant of a call, through the hooks of the users service."""

from __future__ import annotations

from typing import Any

from hooks.context import Caller, HookContext, Params, Record
from hooks.errors import NotFound


class Directory:
    """The users of whichever tenant the params name."""

    def __init__(self, app: Caller, path: str = "users") -> None:
        """`path` is that of the users service."""
        self._app = app
        self._path = path

    async def find(self, params: Params, key: str) -> Record | None:
        """The whole record of the user whose name has this key. With the password hash: it must stay in the server."""
        # Without a total, for which a name that is known would cost a count more than one that is not.
        query: dict[str, Any] = {"username_key": key, "$limit": 1, "$total": False}
        context = await self._app.call(self._path, "find", Params(tenant=params.tenant, query=query))
        found: Any = context.result
        records: list[Record] = found["data"] if isinstance(found, dict) else found
        return records[0] if records else None

    async def show(self, params: Params, user_id: Any) -> Record | None:
        """The user as an external `get` shows it, or None if there is none with this id."""
        context = await self._get(params, user_id)
        shown: Record | None = None if context is None else context.outcome
        return shown

    async def load(self, params: Params, user_id: Any) -> tuple[Record, Record] | None:
        """The user's whole record, which must stay in the server, and the user as an external `get` shows it."""
        context = await self._get(params, user_id)
        return None if context is None else (context.result, context.outcome)

    async def add(self, params: Params, data: Record) -> Record:
        """A new user of the server's own making, as an external `get` shows it.

        Raises:
            Conflict: the id or the name is taken.
        """
        context = await self._app.call(self._path, "create", Params(tenant=params.tenant), data=data)
        shown: Record = context.outcome
        return shown

    async def _get(self, params: Params, user_id: Any) -> HookContext | None:
        try:
            return await self._app.call(self._path, "get", Params(tenant=params.tenant), id=user_id)
        except NotFound:
            return None
