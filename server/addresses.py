"""Where a request comes from: the peer, or whom trusted proxies say that they speak for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from server.engine import Request

HEADER = "X-Forwarded-For"
_REMEMBERED: Final = 4096
"""Addresses that need not be read again."""

Network = IPv4Network | IPv6Network


class Addresses:
    """Reads addresses of requests."""

    def __init__(self, trusted: Sequence[Network] = ()) -> None:
        """`trusted` are the networks of proxies that append to `X-Forwarded-For`; nobody else's word counts."""
        self._trusted = trusted

    def of(self, request: Request) -> str:
        """The address of the request: empty where the peer has none, as over a local socket."""
        return self.follow(request.remote or "", request.headers.getall(HEADER, []))

    def is_by_proxy(self, request: Request) -> bool:
        """Whether a trusted proxy brought the request: its word on the host and the scheme counts as well."""
        peer = _parse_peer(request.remote or "")
        return peer is not None and self._trusts(peer)

    def follow(self, peer: str, forwarded: Sequence[str]) -> str:
        """The last hop that is no trusted proxy. What stands before it is only its word, and is not believed."""
        found = _parse_peer(peer)
        if found is None:
            return peer
        if not forwarded or not self._trusted:
            return _text(found)
        hops = [hop.strip() for line in forwarded for hop in line.split(",")]
        while hops and self._trusts(found):
            before = _parse(hops.pop())
            if before is None:
                break
            found = before
        return _text(found)

    def _trusts(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._trusted)


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    """An address as proxies write it: perhaps with a port, IPv6 perhaps in brackets."""
    bare = text.partition("%")[0]
    if bare.startswith("["):
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        found = ip_address(bare)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found


_parse_peer = lru_cache(_REMEMBERED)(_parse)
_text: Callable[[IPv4Address | IPv6Address], str] = lru_cache(_REMEMBERED)(str)
