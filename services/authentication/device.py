"""Devices: what a session says of where its user has logged in, so that he knows it again."""

from __future__ import annotations

import ipaddress
import unicodedata

from hooks.context import Params, Record

_AGENT = 256


def device_of(params: Params) -> Record:
    """What calls itself what, and from where: without characters that a page or terminal might obey."""
    agent = params.headers.get("user-agent", "")[:_AGENT]
    shown = "".join(char for char in agent if unicodedata.category(char)[0] != "C")
    return {"agent": shown or None, "network": _network(params.address)}


def _network(address: str) -> str | None:
    """Where somebody is, roughly: enough to know a place again, too little to follow a person."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return str(ipaddress.ip_network((found, 24 if found.version == 4 else 48), strict=False))
