"""limit: calls with which somebody could guess, or probe, are counted, and refused when too many have failed."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from hooks.chain import AroundHook, Next
from hooks.context import HookContext

FIELD = "password"
"""Of the data: what is tried."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a call tries."""

    kind: str
    """Names are counted by kind: what fails for one of them does not count for another. Addresses are counted over all."""
    name: str | None
    """Whose secret is tried, or who is asked about, whether there is such a one or not; None counts for the address alone."""
    failures: tuple[type[Exception], ...] = ()
    """The errors that count; without any, every call counts."""
    is_hidden: bool = False
    """Whether a locked name answers as if the password were wrong, and not that it is locked."""


class Turn(Protocol):
    """An attempt that is under way."""

    @property
    def is_locked(self) -> bool:
        """Whether it must fail, whatever it brings."""
        ...

    def end(self, failed: bool | None) -> None:
        """Counts it; None is for what proves nothing, such as a database that cannot be asked."""
        ...


class Limiter(Protocol):
    """Counts attempts."""

    async def begin(self, tenant_id: str, address: str, attempt: Attempt) -> Turn:
        """Lets an attempt begin, at once or when others have ended that may be the last ones allowed.

        Raises:
            TooManyRequests: too many have failed; `data.retry_after` is the seconds to wait.
        """
        ...


Describe = Callable[[HookContext], Awaitable[Attempt | None]]
"""What an external call tries; None is a call that is not counted."""


def limit(limiter: Limiter, describe: Describe) -> AroundHook:
    """Around: counts external calls. Internal calls are trusted.

    Where the name is locked for the caller, the password is replaced by one that nobody has: the answer takes the same
    way and time as that to a wrong password.
    """

    async def count(context: HookContext, next: Next) -> None:
        attempt = None if context.params.provider is None else await describe(context)
        if attempt is None:
            await next()
            return
        turn = await limiter.begin(context.tenant.id, context.params.address, attempt)
        failed: bool | None = None
        try:
            if turn.is_locked and isinstance(context.data, Mapping):
                context.data = {**context.data, FIELD: secrets.token_urlsafe(32)}
            await next()
            failed = not attempt.failures
        except Exception as error:
            if not attempt.failures or isinstance(error, attempt.failures):
                failed = True
            raise
        finally:
            turn.end(failed)

    return count
