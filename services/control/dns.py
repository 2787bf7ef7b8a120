"""DNS, as the control plane asks it: whose host is it, and does it lead to us."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import dns.asyncresolver
import dns.exception
import dns.resolver
from dns.rdatatype import RdataType

from hooks.errors import Unavailable

PATIENCE = 3.0
"""Seconds for one question."""
MOST = 50
"""Records of an answer that are looked at."""


class Dns(Protocol):
    """What is asked."""

    async def texts(self, name: str) -> Sequence[str]:
        """The TXT records of a name; none where there is no such name.

        Raises:
            Unavailable: nobody answers.
        """
        ...

    async def addresses(self, name: str) -> frozenset[str]:
        """The addresses of a name, as `texts`."""
        ...


class Resolver:
    """Asks the system's name servers, or those that are named."""

    def __init__(self, servers: Sequence[str] = (), *, patience: float = PATIENCE) -> None:
        """`servers` are addresses, each perhaps with `:port`."""
        self._servers = servers
        self.patience = patience
        self._made: dns.asyncresolver.Resolver | None = None

    async def texts(self, name: str) -> Sequence[str]:
        """See `Dns`."""
        found = await self._ask(name, RdataType.TXT)
        return [b"".join(record.strings).decode("utf-8", "replace") for record in found]

    async def addresses(self, name: str) -> frozenset[str]:
        """See `Dns`."""
        four, six = await self._ask(name, RdataType.A), await self._ask(name, RdataType.AAAA)
        return frozenset(record.address for record in [*four, *six])

    async def _ask(self, name: str, kind: RdataType) -> list[Any]:
        try:
            answer = await self._resolver().resolve(name, kind, lifetime=self.patience, search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except (dns.exception.DNSException, OSError) as error:
            raise Unavailable(f"The name servers do not answer for '{name}': try again") from error
        return [*answer][:MOST]

    def _resolver(self) -> dns.asyncresolver.Resolver:
        if self._made is None:
            self._made = dns.asyncresolver.Resolver(configure=not self._servers)
            self._made.cache = None
            if self._servers:
                self._made.nameservers = [_server(server) for server in self._servers]
        return self._made


def _server(named: str) -> dns.nameserver.Do53Nameserver:
    address, colon, port = named.rpartition(":")
    is_plain = not colon or (named.count(":") > 1 and not named.startswith("["))
    host = named if is_plain else address
    return dns.nameserver.Do53Nameserver(host.strip("[]"), 53 if is_plain else int(port))
