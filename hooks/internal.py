"""Internal: calls of the server itself to a service, for the tenant and user of the call that is going on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, overload

from bson import ObjectId

from hooks.context import UNSET, Caller, HookContext, Params, Record

RecordId = str | int | float | ObjectId


class Kept(dict[str, Any]):
    """A record as the server itself sees it; `outside` is what of it may leave the server."""

    __slots__ = ("outside",)

    def __init__(self, record: Mapping[str, Any], outside: Any) -> None:
        super().__init__(record)
        self.outside = outside


class Internal:
    """How hooks and services call other services: `await Internal(context.app, context.params).find("rooms", {"open": True})`.

    A call goes through all hooks of the service, is trusted (`provider` None), and stays inside the tenant of `params`.
    Methods answer with whole records as the server sees them, and raise what the service raises. Where the service shows
    less than that to clients, the records are `Kept`.
    """

    __slots__ = ("_app", "_params")

    def __init__(self, app: Caller, params: Params) -> None:
        self._app = app
        self._params = params

    async def find(self, path: str, query: Record | None = None) -> list[Record]:
        """The matching records; of a service with pages those on the page that `$limit` and `$skip` choose."""
        found = _kept(await self._context(path, "find", query))
        records: list[Record] = found["data"] if isinstance(found, Mapping) else found
        return records

    async def get(self, path: str, id: RecordId, query: Record | None = None) -> Record:
        """One record."""
        record: Record = _kept(await self._context(path, "get", query, id=id))
        return record

    @overload
    async def create(self, path: str, data: Record, query: Record | None = None) -> Record: ...

    @overload
    async def create(self, path: str, data: Sequence[Record], query: Record | None = None) -> list[Record]: ...

    async def create(self, path: str, data: Any, query: Record | None = None) -> Any:
        """The new record, or the list of them."""
        return _kept(await self._context(path, "create", query, data=data))

    async def update(self, path: str, id: RecordId, data: Record, query: Record | None = None) -> Record:
        """The record that was replaced, as it is now."""
        record: Record = _kept(await self._context(path, "update", query, id=id, data=data))
        return record

    @overload
    async def patch(self, path: str, id: RecordId, data: Record, query: Record | None = None) -> Record: ...

    @overload
    async def patch(self, path: str, id: None, data: Record, query: Record | None = None) -> list[Record]: ...

    async def patch(self, path: str, id: Any, data: Record, query: Record | None = None) -> Any:
        """The changed record; with the id None the list of all that matched the query."""
        return _kept(await self._context(path, "patch", query, id=id, data=data))

    @overload
    async def remove(self, path: str, id: RecordId, query: Record | None = None) -> Record: ...

    @overload
    async def remove(self, path: str, id: None, query: Record | None = None) -> list[Record]: ...

    async def remove(self, path: str, id: Any, query: Record | None = None) -> Any:
        """The removed record; with the id None the list of all that matched the query."""
        return _kept(await self._context(path, "remove", query, id=id))

    async def call(self, path: str, method: str, data: Any = None, query: Record | None = None) -> Any:
        """What a custom method answers with."""
        return _kept(await self._context(path, method, query, data=data))

    async def _context(
        self, path: str, method: str, query: Record | None, *, id: Any = None, data: Any = None
    ) -> HookContext:
        return await self._app.call(path, method, self._params.internal(query), id=id, data=data)


def outside(value: Any) -> Any:
    """A value as it may leave the server: every `Kept` record in it, at any depth, gives way to what it shows."""
    if isinstance(value, Kept):
        return outside(value.outside)
    if isinstance(value, dict):
        return {key: outside(child) for key, child in value.items()}
    return [outside(child) for child in value] if isinstance(value, list) else value


def _kept(context: HookContext) -> Any:
    result, dispatch = context.result, context.dispatch
    if dispatch is UNSET:
        return None if result is UNSET else result
    if isinstance(result, Mapping) and isinstance(result.get("data"), list) and isinstance(dispatch, Mapping):
        return {**result, "data": _pairs(result["data"], dispatch.get("data"))}
    return _pairs(result, dispatch) if isinstance(result, list) else _pair(result, dispatch)


def _pairs(records: list[Any], shown: Any) -> list[Any]:
    if not isinstance(shown, list) or len(shown) != len(records):
        # Nobody can tell which belongs to which: nothing of them may leave.
        shown = [None] * len(records)
    return [_pair(record, part) for record, part in zip(records, shown, strict=True)]


def _pair(record: Any, shown: Any) -> Any:
    return Kept(record, shown) if isinstance(record, Mapping) else record
