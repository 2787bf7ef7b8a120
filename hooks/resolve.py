"""Resolvers: functions per property, `(value, record, context) -> value`, sync or async, that shape data, queries and results.

`value` is `UNSET` where the record has no such property, and a function that returns `UNSET` removes it. All functions of a
record run at the same time. Like Feathers' own, they are registered from the outside to the inside:

    {"around": {"all": [resolve_external(...), resolve_result(...)]},
     "before": {"all": [resolve_query(...)], "create": [validate_data(...), resolve_data(...)]}}

Each of these hooks raises BadRequest `Error resolving data` with `{property: error}` as data when functions fail.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

from hooks.chain import Next
from hooks.context import UNSET, HookContext, Record
from hooks.errors import BadRequest, FeathersError, to_feathers_error
from hooks.internal import outside
from hooks.projection import project, selection
from hooks.tenancy import FIELD

log = structlog.get_logger()

Resolver = Callable[[Any, Record, HookContext], Any]
Resolvers = Mapping[str, Resolver]

AT_ONCE = 50
"""Records whose functions run at the same time."""
_SHAPED = frozenset({"find", "get"})
"""Methods whose records a service cuts to `$select` itself."""


def resolve_data(resolvers: Resolvers) -> Callable[[HookContext], Awaitable[None]]:
    """A before hook: the data as it is to be saved, item by item. `record` is the item as it was sent."""

    async def resolve(context: HookContext) -> None:
        context.data = await _each(context.data, lambda record: _resolve(record, resolvers, context))

    return resolve


def resolve_query(resolvers: Resolvers) -> Callable[[HookContext], Awaitable[None]]:
    """A before hook: conditions on properties, such as one that makes users see their own records only.

    `value` is the condition on the property itself; what stands below `$or` stays, and narrows the query further.
    `record` is the query's conditions by property. What a function returns replaces every condition on its property,
    those of an access rule too.

    Raises:
        ValueError: a function for `app_id`, which is the server's own.
    """
    if FIELD in resolvers:
        raise ValueError(f"'{FIELD}' is set by the server and cannot be resolved")

    async def resolve(context: HookContext) -> None:
        query = context.params.query
        sent = _conditions(query)
        resolved = await _resolve(sent, resolvers, context)
        changed = {name for name in resolvers if sent.get(name, UNSET) is not resolved.get(name, UNSET)}
        if changed:
            forced = {name: resolved[name] for name in changed if name in resolved}
            context.params.query = {**_without(query, changed), **forced}

    return resolve


def resolve_result(resolvers: Resolvers) -> Callable[[HookContext, Next], Awaitable[None]]:
    """An around hook: computed properties of the records in the result, page or list.

    A find or get with `$select` computes those alone that it names; then the functions see whole records. What a writing
    method answers with is computed whole, since its event goes to others; the answer is cut afterwards.
    """

    async def resolve(context: HookContext, next: Next) -> None:
        names = selection(context.params.query) if context.method in _SHAPED else None
        heads = None if names is None else {name.partition(".")[0] for name in names}
        wanted = {name: run for name, run in resolvers.items() if heads is None or name in heads}
        asked = context.params.query
        if names is not None and wanted:
            context.params.query = {key: value for key, value in asked.items() if key != "$select"}
        await next()
        if names is not None and wanted:
            context.params.query = {**context.params.query, "$select": asked["$select"]}
        if not wanted or context.result is UNSET:
            return
        own = [*names, "_id", getattr(context.service, "id", "_id")] if names is not None else None

        async def compute(record: Record) -> Record:
            computed = await _resolve(record, wanted, context)
            return computed if own is None else project(computed, own)

        shown = context.dispatch
        context.result = await _each(context.result, compute)
        if shown is not UNSET:
            # A hook below has made the safe copy already: what was computed since belongs to it too.
            context.dispatch = _carried(shown, context.result, wanted, own)

    return resolve


def resolve_external(resolvers: Resolvers) -> Callable[[HookContext, Next], Awaitable[None]]:
    """An around hook: the safe copy of the result, which leaves the server in answers and events; internal callers get all.

    Records of other services inside of it, fetched by `hooks.internal.Internal`, are shown as those services show them.
    """

    async def resolve(context: HookContext, next: Next) -> None:
        await next()
        if context.result is not UNSET:
            context.dispatch = outside(
                await _each(context.outcome, lambda record: _resolve(record, resolvers, context))
            )

    return resolve


async def _resolve(record: Record, resolvers: Resolvers, context: HookContext) -> Record:
    """A copy of the record with the properties as the functions have them."""
    found = {**record}
    waiting: dict[str, Awaitable[Any]] = {}
    failed: dict[str, Exception] = {}
    for name, resolver in resolvers.items():
        try:
            value = resolver(record.get(name, UNSET), record, context)
        except Exception as error:
            failed[name] = error
            continue
        if inspect.isawaitable(value):
            waiting[name] = value
        else:
            _put(found, name, value)
    if waiting:
        values = await asyncio.gather(*waiting.values(), return_exceptions=True)
        for name, value in zip(waiting, values, strict=True):
            if isinstance(value, Exception):
                failed[name] = value
            elif isinstance(value, BaseException):
                raise value
            else:
                _put(found, name, value)
    if failed:
        raise _failure(failed, context)
    return found


def _put(record: Record, name: str, value: Any) -> None:
    if value is UNSET:
        record.pop(name, None)
    else:
        record[name] = value


def _failure(failed: Mapping[str, Exception], context: HookContext) -> BadRequest:
    for name, error in failed.items():
        if not isinstance(error, FeathersError):
            log.error("resolver failed", service=context.path, method=context.method, property=name, exc_info=error)
    failure = BadRequest(
        "Error resolving data", data={name: to_feathers_error(error).to_json() for name, error in failed.items()}
    )
    failure.__cause__ = next(iter(failed.values()))
    return failure


async def _each(outcome: Any, resolve: Callable[[Record], Awaitable[Record]]) -> Any:
    """The outcome with each of its records resolved."""
    records = _records(outcome)
    resolved: list[Any] = []
    for start in range(0, len(records), AT_ONCE):
        part = records[start : start + AT_ONCE]
        resolved += [await resolve(part[0])] if len(part) == 1 else await asyncio.gather(*map(resolve, part))
    return _replaced(outcome, resolved)


def _records(outcome: Any) -> list[Record]:
    """The records of a list, a page, or a single one; what is no record is passed over."""
    if isinstance(outcome, list):
        return [record for record in outcome if isinstance(record, dict)]
    if _is_page(outcome):
        return _records(outcome["data"])
    return [outcome] if isinstance(outcome, dict) else []


def _replaced(outcome: Any, records: list[Any]) -> Any:
    """The outcome with other records in the places of its own."""
    if isinstance(outcome, list):
        others = iter(records)
        return [next(others) if isinstance(record, dict) else record for record in outcome]
    if _is_page(outcome):
        return {**outcome, "data": _replaced(outcome["data"], records)}
    return records[0] if isinstance(outcome, dict) else outcome


def _is_page(outcome: Any) -> bool:
    return (
        isinstance(outcome, dict) and isinstance(outcome.get("data"), list) and "limit" in outcome and "skip" in outcome
    )


def _carried(shown: Any, result: Any, computed: Resolvers, own: list[str] | None) -> Any:
    """The safe copy with the computed properties of the result."""
    copies = []
    for part, record in zip(_records(shown), _records(result), strict=True):
        copy = {**part}
        for name in computed:
            _put(copy, name, record.get(name, UNSET))
        copies.append(copy if own is None else project(copy, own))
    return _replaced(shown, copies)


def _conditions(query: Mapping[str, Any]) -> Record:
    """What a query asks of properties, seen through the conditions that hooks have put around it."""
    found: Record = {}
    for part in [*_branches(query), query]:
        found |= {key: value for key, value in part.items() if key[:1] != "$" and key != FIELD}
    return found


def _without(query: Record, names: set[str]) -> Record:
    """The query without its conditions on these properties."""
    kept = {key: value for key, value in query.items() if key not in names}
    if branches := _branches(query):
        left = [{key: value for key, value in branch.items() if key not in names} for branch in branches]
        kept["$and"] = [branch for branch in left if branch]
        if not kept["$and"]:
            del kept["$and"]
    return kept


def _branches(query: Mapping[str, Any]) -> list[Record]:
    """The top-level `$and`; what is none is for the service to refuse."""
    branches = query.get("$and")
    return branches if isinstance(branches, list) and all(isinstance(one, dict) for one in branches) else []
