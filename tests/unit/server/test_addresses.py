"""LIMITS.md O4: X-Forwarded-For counts from trusted proxies alone, and of it only what they have seen themselves."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from server.addresses import Addresses
from server.settings import SettingsError, load

PROXIES = Addresses((ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")))


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.7", [], "203.0.113.7"),
        ("203.0.113.7", ["192.0.2.1"], "203.0.113.7"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.1"], "192.0.2.1"),
        ("10.0.0.1", ["6.6.6.6, 192.0.2.1"], "192.0.2.1"),
        ("10.0.0.1", ["6.6.6.6", "192.0.2.1, 10.0.0.2"], "192.0.2.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["192.0.2.1, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.1:4711"], "192.0.2.1"),
        ("10.0.0.1", ["[2a00::1]:4711"], "2a00::1"),
        ("::ffff:10.0.0.1", ["192.0.2.1"], "192.0.2.1"),
        ("2001:db8::1", ["::ffff:192.0.2.1"], "192.0.2.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("", ["192.0.2.1"], ""),
    ],
)
def test_the_last_hop_that_no_trusted_proxy_is(peer: str, forwarded: list[str], expected: str) -> None:
    assert PROXIES.follow(peer, forwarded) == expected


def test_nobody_is_trusted_unless_named() -> None:
    assert Addresses().follow("127.0.0.1", ["192.0.2.1"]) == "127.0.0.1"


def test_the_setting_names_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOST_TRUSTED_PROXIES", "10.0.0.0/8, 192.0.2.1,")
    assert [str(network) for network in load().trusted_proxies] == ["10.0.0.0/8", "192.0.2.1/32"]
    monkeypatch.setenv("ROOST_TRUSTED_PROXIES", "everybody")
    with pytest.raises(SettingsError, match="ROOST_TRUSTED_PROXIES"):
        load()
