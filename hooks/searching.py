"""Searches are paid for by the time that the database takes: in advance by what others took, and exactly at their end."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol

from hooks.chain import AroundHook, Next
from hooks.context import HookContext
from hooks.rate import Limiter, subjects_of
from hooks.spent import measured
from hooks.tenant import Tenant

SEARCH = "search"
"""The kind of limit; its tokens are milliseconds."""
_BY_ID = ("patch", "remove")
SEARCHING = ("find", *_BY_ID)
"""The methods that look for records, some of them only without an id."""


class Payments(Limiter, Protocol):
    """Takes tokens in advance, and what is still owed when it is known; less than nothing is given back."""

    def charge(self, tenant: Tenant, kind: str, cost: int, subjects: Iterable[tuple[str, str]]) -> None:
        """Takes what was used already."""
        ...


class Times(Protocol):
    """What searches of tenants take."""

    def expected(self, app_id: str) -> int:
        """Milliseconds, one at least."""
        ...

    def learn(self, app_id: str, milliseconds: int) -> None:
        """Hears what one took."""
        ...


def pay_for_searches(payments: Payments, times: Times) -> AroundHook:
    """Around `find`, `patch` and `remove`: external calls that look for records, of tenants that have a limit for that.

    What a call is expected to take is paid before it begins, or many that come at once would all be let through; the
    difference follows when it has ended, however it ended. A busy database makes searches dearer, waiting for a connection
    does not.

    Raises:
        TooManyRequests: the tenant, user or address owes for earlier ones.
    """

    async def pay(context: HookContext, next: Next) -> None:
        params = context.params
        tenant = params.tenant
        is_by_id = context.method in _BY_ID and context.id is not None
        if is_by_id or SEARCH not in tenant.limits.rates or params.provider is None:
            await next()
            return
        paid, subjects = times.expected(tenant.id), subjects_of(params)
        wait = payments.admit(tenant, {SEARCH: paid}, subjects)
        if wait is not None:
            await wait
        try:
            with measured() as spent:
                await next()
        finally:
            taken = math.ceil(spent.seconds * 1000)
            times.learn(tenant.id, taken)
            payments.charge(tenant, SEARCH, taken - paid, subjects)

    return pay
