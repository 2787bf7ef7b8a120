"""Rates and quotas: calls from outside are counted before anything else is done about them."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from hooks.context import HookContext, Params
from hooks.scopes import LOGIN
from hooks.tenant import Tenant

WRITING = frozenset({"create", "update", "patch", "remove"})
BROADCAST = "broadcast"


class Limiter(Protocol):
    """Counts calls by kind, and by whom they come from."""

    def admit(
        self, tenant: Tenant, kind: str, subjects: Iterable[tuple[str, str]], *, cost: int = 1
    ) -> Awaitable[None] | None:
        """Counts a call, at once or when what it returns was awaited; raises TooManyRequests."""
        ...


class Counter(Protocol):
    """Counts what is used in a month."""

    async def use(self, tenant: Tenant, name: str) -> None:
        """Counts one unit; raises QuotaExceeded."""
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
        waits: list[Awaitable[None]] = []
        try:
            for kind in kinds_of(context):
                # What is sent to subscribers is counted when it is sent; writes wait while the app owes for earlier ones.
                cost = 0 if kind == BROADCAST else 1
                wait = limiter.admit(params.tenant, kind, subjects_of(params), cost=cost)
                if wait is not None:
                    waits.append(wait)
        except BaseException:
            for wait in waits:
                if inspect.iscoroutine(wait):
                    wait.close()
            raise
        return _finish(context, waits, counter) if waits or limits.quotas else None

    return check


def kinds_of(context: HookContext) -> list[str]:
    """The kinds of limits that a call falls under."""
    kinds = ["http" if context.params.provider == "rest" else "event"]
    if context.method in WRITING and context.path != LOGIN:
        kinds += ["write", BROADCAST]
    if context.path == LOGIN and context.method == "create":
        kinds.append("auth")
    return kinds


def subjects_of(params: Params) -> list[tuple[str, str]]:
    """Whose buckets a call takes from. A user is known by a socket's login; a request's token is not verified yet."""
    subjects = [("tenant", "")]
    if params.user is not None:
        subjects.append(("user", str(params.user["_id"])))
    if params.address:
        subjects.append(("address", params.address))
    return subjects


async def _finish(context: HookContext, waits: list[Awaitable[None]], counter: Counter) -> None:
    for wait in waits:
        await wait
    tenant = context.params.tenant
    if tenant.limits.quotas:
        await counter.use(tenant, "calls")
        if context.method in WRITING and context.path != LOGIN:
            await counter.use(tenant, "writes")
