"""Origins: which pages an app lists, and whether a page is one of them.

An entry is a scheme, a host and perhaps a port, exactly as a browser writes them; `*.` in front stands for one label.
"""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from ipaddress import ip_address
from urllib.parse import urlsplit

import idna

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_HERE = frozenset({"localhost", "127.0.0.1", "[::1]"})
_DEFAULT = {"http": 80, "https": 443}
_ANY = "*."
_FORM = "must be scheme://host or scheme://host:port, such as https://app.example.com"


def canonical_origin(origin: str) -> str:
    """An entry as it is compared: IDNA-encoded, without a default port.

    Raises:
        ValueError: it is none, or names pages that cannot be trusted: any page, or one that came without TLS.
    """
    try:
        parts = urlsplit(origin)
    except ValueError as error:
        raise ValueError(_FORM) from error
    if parts.scheme not in _DEFAULT or origin.lower() != f"{parts.scheme}://{parts.netloc}".lower() or "@" in origin:
        raise ValueError(_FORM)
    if origin != origin.lower():
        raise ValueError("must be in lower case")
    try:
        host, port = _host(parts.hostname or ""), parts.port
    except ValueError as error:
        raise ValueError(_FORM) from error
    if parts.scheme == "http" and host not in _HERE and not host.endswith(".localhost"):
        raise ValueError("must be https://; http:// is for localhost alone")
    shown = "" if port is None or port == _DEFAULT[parts.scheme] else f":{port}"
    return f"{parts.scheme}://{host}{shown}"


def allows(listed: AbstractSet[str], origin: str) -> bool:
    """Whether one of the listed entries is this origin, or stands for it."""
    if origin == "null":
        return False
    if origin in listed:
        return _ANY not in origin
    scheme, separator, rest = origin.partition("://")
    label, dot, parent = rest.partition(".")
    return bool(separator and dot and _LABEL.fullmatch(label)) and f"{scheme}://{_ANY}{parent}" in listed


def _host(host: str) -> str:
    if ":" in host:
        return f"[{ip_address(host)}]"
    if host.replace(".", "").isdigit():
        return str(ip_address(host))
    any_label, bare = (_ANY, host[len(_ANY) :]) if host.startswith(_ANY) else ("", host)
    name = idna.encode(bare, uts46=True).decode("ascii").lower()
    if name.endswith(".") or (any_label and "." not in name and name != "localhost"):
        raise ValueError(name)
    return any_label + name
