"""Rates and quotas: calls from outside are counted before anything else is done about them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Protocol

from hooks.context import HookContext, Params
from hooks.scopes import LOGIN
from hooks.tenant import Tenant

WRITING = frozenset({"create", "update", "patch", "remove"})
BROADCAST = "broadcast"


class Limiter(Protocol):
    """Counts calls by kind, and by whom they come from."""

    def admit(
        self, tenant: Tenant, costs: Mapping[str, int], subjects: Collection[tuple[str, str]]
    ) -> Awaitable[None] | None:
        """Counts a call as so many of each kind, at once or when what it returns was awaited; raises TooManyRequests."""
        ...


class Counter(Protocol):
    """Counts what is used in a month."""

    async def use(self, tenant: Tenant, *names: str) -> None:
        """Counts one unit of each; raises QuotaExceeded."""
        ...


def enforce_limits(limiter: Limiter, counter: Counter) -> Callable[[HookContext], Awaitable[None] | None]:
    """Before all: counts external calls of tenants that have limits. Internal calls are part of one that was counted.

    Raises:
        TooManyRequests: too many in too short a time. Forbidden: the quota of the month is used up.
    """

    def check(context: HookContext) -> Awaitable[None] | None:
        params = context.params
        limits = params.tenant.limits
        if params.provider is None or not (limits.rates or limits.quotas):
            return None
        wait = limiter.admit(params.tenant, costs_of(context), subjects_of(params)) if limits.rates else None
        return _finish(context, wait, counter) if wait is not None or limits.quotas else None

    return check


def costs_of(context: HookContext) -> dict[str, int]:
    """The kinds of limits that a call falls under, and how much it costs of each."""
    costs = {"http" if context.params.provider == "rest" else "event": 1}
    if _is_writing(context):
        # What is sent to subscribers is counted when it is sent; writes wait while the app owes for earlier ones.
        costs |= {"write": 1, BROADCAST: 0}
    if context.path == LOGIN and context.method == "create":
        costs["auth"] = 1
    return costs


def subjects_of(params: Params) -> list[tuple[str, str]]:
    """Whose buckets a call takes from. A user is known by a socket's login; a request's token is not verified yet."""
    subjects = [("tenant", "")]
    if params.user is not None:
        subjects.append(("user", str(params.user["_id"])))
    if params.address:
        subjects.append(("address", params.address))
    return subjects


async def _finish(context: HookContext, wait: Awaitable[None] | None, counter: Counter) -> None:
    if wait is not None:
        await wait
    tenant = context.params.tenant
    if tenant.limits.quotas:
        await counter.use(tenant, *(("calls", "writes") if _is_writing(context) else ("calls",)))


def _is_writing(context: HookContext) -> bool:
    return context.method in WRITING and context.path != LOGIN
