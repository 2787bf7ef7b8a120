"""Addresses of an app's pages to which a login is sent back: compared part by part with those that are declared, never built.

What is compared equal leads to the declared text itself, so nothing that a client has written is ever an address.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

LONGEST = 1024
_CHARACTERS = re.compile(r"(?:[A-Za-z0-9._~:/?\[\]!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")
_HIDDEN = re.compile(r"%(?:2[EF]|5C|[01][0-9A-F]|7F)", re.IGNORECASE)
"""Dots, slashes, backslashes and control characters that somebody has written as escapes."""
_HOST = re.compile(
    r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*|\[::1\])(?::[1-9][0-9]{0,4})?"
)
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Target:
    """An address, taken apart."""

    scheme: str
    host: str
    port: int
    path: str
    query: str

    @property
    def origin(self) -> str:
        """Scheme, host and port, as a page of the address sends it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == _PORTS[self.scheme] else f":{self.port}")


def parse_target(url: str) -> Target:
    """The parts of an address: https, or http on this very machine, without user, fragment, or anything to be decoded first.

    Raises:
        ValueError: it is no such address.
    """
    plain = len(url) <= LONGEST and _CHARACTERS.fullmatch(url) and not _HIDDEN.search(url)
    parts = urlsplit(url) if plain else None
    if parts is None or not _HOST.fullmatch(parts.netloc) or parts.scheme not in _PORTS:
        raise ValueError(
            "must be an address such as https://app.example.com/login, without user, fragment or escaped dots"
        )
    if not url.startswith(f"{parts.scheme}://{parts.netloc}"):
        raise ValueError("must be written in lower case as far as the path")
    host, path = parts.hostname or "", parts.path or "/"
    if parts.scheme == "http" and host not in _LOCAL:
        raise ValueError("must be https; http is for localhost alone")
    segments = path.split("/")[1:]
    if not {".", ".."}.isdisjoint(segments) or "" in segments[:-1]:
        raise ValueError("must have a path without '.', '..' and empty parts")
    return Target(parts.scheme, host, parts.port or _PORTS[parts.scheme], path, parts.query)


def check_target(url: str) -> str:
    """An address that may be declared, as it is.

    Raises:
        ValueError: `parse_target` refuses it.
    """
    parse_target(url)
    return url


def choose_target(declared: Sequence[str], wanted: str | None) -> str | None:
    """The declared address that a client wants; None when it wants another one. Without a wish it is the first.

    A wish that begins with a slash is a path at the origin of the first.
    """
    if wanted is None:
        return declared[0]
    if wanted.startswith("/"):
        wanted = parse_target(declared[0]).origin + wanted
    try:
        target = parse_target(wanted)
    except ValueError:
        return None
    return next((url for url in declared if parse_target(url) == target), None)
