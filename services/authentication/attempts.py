"""Attempts: how often logins, sign-ups and resets have failed lately, by name and by address, in this process.

Two counts keep each other company. An address that fails too often, whatever it tries, has to wait longer and longer. A name
for which too many have failed is locked: the addresses that tried it do not get in any more, whatever they bring, while all
others may try one after another, and after each failure have to wait longer. So its owner gets in from where he is.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any

from hooks.authenticate import identify
from hooks.context import HookContext
from hooks.errors import BadRequest, Conflict, NotAuthenticated, TooManyRequests
from hooks.limit import FIELD, Attempt
from hooks.tenant import Tenant
from services.authentication.names import LONGEST, name_key

WINDOW = 15 * 60.0
"""Seconds for which a failure counts."""
PER_NAME = 10
PER_ADDRESS = 100
OWN_SHARE = 3
"""Failures after which an address counts as one of those that a locked name is locked for."""
LONGEST_WAIT = {"name": 60.0, "address": WINDOW}
"""Seconds. That for a name is short: its owner may be among those who wait."""
MOST = 20_000
"""Names, and addresses, that are remembered: those that have failed last."""


_Key = tuple[str, ...]


class Attempts:
    """Implements `hooks.limit.Limiter`."""

    def __init__(
        self,
        *,
        per_name: int = PER_NAME,
        per_address: int = PER_ADDRESS,
        most: int = MOST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`per_name` and `per_address` failures may come in a quarter of an hour; `clock` tells seconds."""
        self._clock = clock
        self._names = _Counters(most, lambda: _Counter(per_name, LONGEST_WAIT["name"], clock))
        self._addresses = _Counters(most, lambda: _Counter(per_address, LONGEST_WAIT["address"], clock))

    async def begin(self, tenant_id: str, address: str, attempt: Attempt) -> _Turn:
        """See `Limiter`. An address without a name counts as one of its own.

        Raises:
            TooManyRequests: too many have failed; `data.retry_after` is the seconds to wait.
        """
        source = network(address)
        of_address: _Key = (tenant_id, source)
        of_name: _Key = (tenant_id, attempt.kind, attempt.name or "")
        while True:
            # What is refused here leaves nothing behind: it costs its sender nothing, and could push out what counts.
            by_address = self._addresses.of(of_address)
            by_name = None if attempt.name is None else self._names.of(of_name)
            if (wait := by_address.wait()) > 0:
                raise refused(wait)
            is_locked = by_name is not None and by_name.is_locked_for(source)
            if by_name is not None and not is_locked and (wait := by_name.wait()) > 0:
                raise refused(wait)
            if by_name is not None and is_locked and not attempt.is_hidden:
                raise refused(by_name.lasts())
            counted = [(self._addresses, of_address, by_address)]
            if by_name is not None and not is_locked:
                counted.append((self._names, of_name, by_name))
            full = next((counter for _, _, counter in counted if counter.is_full), None)
            if full is None:
                return _Turn(source, counted, is_locked)
            # Whether there is room depends on how those end that run: neither to let in too many, nor to refuse the right one.
            await full.changed()

    def __len__(self) -> int:
        return len(self._names) + len(self._addresses)


class _Turn:
    """Implements `hooks.limit.Turn`."""

    def __init__(self, source: str, counted: list[tuple[_Counters, _Key, _Counter]], is_locked: bool) -> None:
        self.is_locked = is_locked
        self._source = source
        self._counted = counted
        for kept, key, counter in counted:
            counter.running += 1
            kept.keep(key, counter)

    def end(self, failed: bool | None) -> None:
        (_, _, by_address), *by_name = self._counted
        if failed:
            by_address.fail(self._source)
        for _, _, counter in by_name:
            if failed:
                counter.fail(self._source)
            elif failed is False:
                # The address' own count stays: whoever has an account could else forgive himself what he tries on others.
                counter.forgive(self._source)
        for kept, key, counter in self._counted:
            counter.leave()
            kept.let_go(key)


class _Counter:
    """The failures of one name or address."""

    __slots__ = ("_beyond", "_clock", "_failures", "_limit", "_longest", "_until", "_waiting", "running")

    def __init__(self, limit: int, longest: float, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._longest = longest
        self._clock = clock
        self._failures: deque[tuple[float, str]] = deque(maxlen=limit)
        self._beyond = 0
        self._until = -math.inf
        self._waiting: asyncio.Event | None = None
        self.running = 0

    @property
    def is_blank(self) -> bool:
        """Whether it says nothing that a new one would not say."""
        return not self.running and not self._failures

    @property
    def is_full(self) -> bool:
        """Whether those that run could use up what is left; one at a time goes on where nothing is left."""
        return self.running >= max(1, self._limit - len(self._failures))

    def wait(self) -> float:
        """Seconds until the next attempt."""
        self._forget_old()
        return max(0.0, self._until - self._clock())

    def lasts(self) -> float:
        """Seconds until the oldest failure counts no more."""
        return self._failures[0][0] + WINDOW - self._clock()

    def is_locked_for(self, source: str) -> bool:
        """Whether too many have failed, and among them enough from there."""
        self._forget_old()
        if len(self._failures) < self._limit:
            return False
        return sum(known == source for _, known in self._failures) >= min(OWN_SHARE, self._limit)

    def fail(self, source: str) -> None:
        """Counts a failure; those beyond the limit make all wait, each twice as long as the one before."""
        self._forget_old()
        now = self._clock()
        if len(self._failures) == self._limit:
            self._until = now + min(2.0**self._beyond, self._longest)
            self._beyond = min(self._beyond + 1, 30)
        self._failures.append((now, source))

    def forgive(self, source: str) -> None:
        """Forgets what has failed from there, and the waiting: not what others have tried."""
        self._failures = deque((kept for kept in self._failures if kept[1] != source), maxlen=self._limit)
        self._rest()

    def leave(self) -> None:
        """One that ran has ended."""
        self.running -= 1
        if self._waiting is not None:
            self._waiting.set()
            self._waiting = None

    async def changed(self) -> None:
        """Returns when one that runs has ended."""
        if self._waiting is None:
            self._waiting = asyncio.Event()
        await self._waiting.wait()

    def _forget_old(self) -> None:
        before = self._clock() - WINDOW
        while self._failures and self._failures[0][0] <= before:
            self._failures.popleft()
        if not self._failures:
            self._rest()

    def _rest(self) -> None:
        self._beyond, self._until = 0, -math.inf


class _Counters:
    """Counters of attempts that run or have failed, by key; the oldest go when there are too many."""

    def __init__(self, most: int, make: Callable[[], _Counter]) -> None:
        self._most = most
        self._make = make
        self._kept: OrderedDict[_Key, _Counter] = OrderedDict()

    def of(self, key: _Key) -> _Counter:
        """The counter of a key; one that is new is not kept yet."""
        return self._kept.get(key) or self._make()

    def keep(self, key: _Key, counter: _Counter) -> None:
        """Keeps a counter on which an attempt runs: as long as it does, whatever else comes."""
        self._kept[key] = counter
        self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            oldest = next((key for key, kept in self._kept.items() if not kept.running), None)
            if oldest is None:
                return
            del self._kept[oldest]

    def let_go(self, key: _Key) -> None:
        """Forgets a counter that has nothing to say any more."""
        if (found := self._kept.get(key)) is not None and found.is_blank:
            del self._kept[key]

    def __len__(self) -> int:
        return len(self._kept)


def network(address: str) -> str:
    """What counts as one address: of IPv6 the first 64 bits, which is what one household has."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((found, 64), strict=False).network_address)


def refused(wait: float) -> TooManyRequests:
    """The error for an attempt that comes too early: never 401, which official clients take for a word about their token."""
    seconds = max(1, math.ceil(wait))
    return TooManyRequests(f"Too many attempts: try again in {seconds} s", data={"retry_after": seconds})


async def login_attempt(context: HookContext) -> Attempt | None:
    """A login by password; other ways of logging in have nothing that can be guessed."""
    data = context.data
    if not isinstance(data, Mapping) or FIELD not in data:
        return None
    return Attempt("login", _name_in(data, context.tenant), (NotAuthenticated,), is_hidden=True)


async def sign_up_attempt(context: HookContext) -> Attempt | None:
    """A sign-up: one with a taken name tells who has an account, where the tenant lets it tell."""
    data = context.data
    return Attempt("sign-up", _name_in(data, context.tenant), (Conflict,)) if isinstance(data, Mapping) else None


async def account_attempt(context: HookContext) -> Attempt | None:
    """What can be guessed or misused of the accounts service: tokens, the current password, and the sending of mails."""
    data = context.data
    action = data.get("action") if isinstance(data, Mapping) else None
    if action in ("reset-request", "verify-request"):
        return Attempt(action, _name_in(data, context.tenant))
    if action in ("reset", "verify", "change-email", "accept-invitation"):
        return Attempt("token", None, (BadRequest,))
    if action in ("change-password", "change-email-request", "remove-account"):
        await identify(context)
        user = context.params.user
        return Attempt("own-password", None if user is None else str(user["_id"]), (BadRequest,))
    return None


def _name_in(data: Mapping[str, Any], tenant: Tenant) -> str | None:
    name = data.get(tenant.auth.username_field)
    possible = isinstance(name, str) and len(name) <= LONGEST and not any("\ud800" <= char <= "\udfff" for char in name)
    return name_key(name) if possible and isinstance(name, str) else None
