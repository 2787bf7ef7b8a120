"""Hosts in canonical form (TENANCY.md SD-1)."""

from __future__ import annotations

import pytest

from hooks.errors import BadRequest
from server.hosts import Host, canonical


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("example.com", Host("example.com")),
        ("Example.COM", Host("example.com")),
        ("example.com.", Host("example.com")),
        ("example.com:3030", Host("example.com")),
        ("example.com.:443", Host("example.com")),
        ("a-b.example.com", Host("a-b.example.com")),
        ("bücher.example", Host("xn--bcher-kva.example")),
        ("BÜCHER.example", Host("xn--bcher-kva.example")),
        ("xn--bcher-kva.example", Host("xn--bcher-kva.example")),
        ("ｅxample.com", Host("example.com")),
        ("localhost:3030", Host("localhost")),
        ("127.0.0.1", Host("127.0.0.1", is_address=True)),
        ("127.0.0.1:3030", Host("127.0.0.1", is_address=True)),
        ("[::1]", Host("::1", is_address=True)),
        ("[2001:DB8::1]:3030", Host("2001:db8::1", is_address=True)),
    ],
)
def test_hosts_are_made_canonical(text: str, host: Host) -> None:
    """SD-1: lower case, IDNA, without port and trailing dot."""
    assert canonical(text) == host


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "a..b",
        ".example.com",
        "example.com..",
        "-a.example.com",
        "a-.example.com",
        "a_b.example.com",
        "a b.example.com",
        "a/b",
        "a@example.com",
        "example.com:",
        "example.com:port",
        "example.com:123456",
        "example.com:80:80",
        "a" * 64 + ".example.com",
        ".".join(["a" * 60] * 5),
        "exa\0mple.com",
        "example.com\\evil",
        "1.2.3",
        "256.1.1.1",
        "[::1",
        "[nonsense]",
        "::1",
        "xn--a",
        "acme.example.com,globex.example.com",
        "*.example.com",
    ],
)
def test_what_is_no_host_is_refused(text: str) -> None:
    """SD-1: 400."""
    with pytest.raises(BadRequest):
        canonical(text)
