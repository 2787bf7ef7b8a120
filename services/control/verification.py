"""Verification: looks at the DNS of domains, when their owners ask for it and every few hours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import structlog

from hooks.errors import FeathersError
from services.control.dns import Dns
from services.control.domains import REMOVED, Domains, Record, challenge

log = structlog.get_logger()

PAUSE = 60.0
"""Seconds between two looks for domains that are due."""
AT_ONCE = 8
"""Domains that are looked at at a time."""


class Verification:
    """Brings what is known of domains in line with the DNS."""

    def __init__(self, domains: Domains, dns: Dns, *, base_hosts: Sequence[str] = ()) -> None:
        """A host that has an address in common with a base host leads here."""
        self._domains = domains
        self._dns = dns
        self.base_hosts = base_hosts

    async def verify(self, record: Record, now: datetime | None = None) -> Record:
        """The domain after a look at its DNS.

        Raises:
            Unavailable: nobody answers for it. Conflict: somebody else has proved the host.
        """
        name, value = challenge(record)
        is_proved = value in await self._dns.texts(name)
        leads_here = is_proved and await self._leads_here(record["host"])
        return await self._domains.settle(record, now or datetime.now(UTC), is_proved=is_proved, leads_here=leads_here)

    async def review(self, now: datetime) -> int:
        """Looks at all domains that are due; how many there were. One that cannot be looked at has its turn later."""
        # A name server that does not answer keeps one of these waiting, not all domains.
        return sum(await asyncio.gather(*(self._look(now) for _ in range(AT_ONCE))))

    async def _look(self, now: datetime) -> int:
        count = 0
        while (record := await self._domains.due(now)) is not None:
            count += 1
            try:
                if record["state"] != REMOVED:
                    await self.verify(record, now)
                elif not await self._leads_here(record["host"]):
                    await self._domains.release(record)
            except FeathersError as error:
                log.warning("a domain could not be checked", host=record["host"], error=type(error).__name__)
        return count

    async def run(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Reviews for ever."""
        while True:
            try:
                await self.review(clock())
            except FeathersError as error:
                log.warning("domains could not be checked", error=type(error).__name__)
            await asyncio.sleep(PAUSE)

    async def _leads_here(self, host: str) -> bool:
        own = [await self._dns.addresses(base) for base in self.base_hosts]
        return not (await self._dns.addresses(host)).isdisjoint(frozenset[str]().union(*own))
