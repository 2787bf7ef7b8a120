"""Origins that an app may list, and those that its entries stand for (TENANCY.md TC-6, LIMITS.md O1)."""

from __future__ import annotations

import pytest

from services.origins import allows, canonical_origin


@pytest.mark.parametrize(
    ("entry", "canonical"),
    [
        ("https://a.com", "https://a.com"),
        ("https://a.com:443", "https://a.com"),
        ("https://a.com:8443", "https://a.com:8443"),
        ("http://localhost:80", "http://localhost"),
        ("http://localhost:3030", "http://localhost:3030"),
        ("http://127.0.0.1:3030", "http://127.0.0.1:3030"),
        ("http://[::1]:3030", "http://[::1]:3030"),
        ("http://app.localhost", "http://app.localhost"),
        ("https://192.0.2.1", "https://192.0.2.1"),
        ("https://[2001:db8:0::1]", "https://[2001:db8::1]"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("https://*.example.com", "https://*.example.com"),
        ("https://*.example.com:8443", "https://*.example.com:8443"),
        ("https://*.bücher.example", "https://*.xn--bcher-kva.example"),
    ],
)
def test_entries_are_made_canonical(entry: str, canonical: str) -> None:
    """TC-6: exact scheme, host and port; a wildcard stands for one label."""
    assert canonical_origin(entry) == canonical


@pytest.mark.parametrize(
    "entry",
    [
        *("*", "https://*", "https://*.", "https://*.com", "https://a.*.com", "https://*a.com", "https://*.*.a.com"),
        *("http://a.com", "http://*.example.com", "http://192.168.0.1", "http://localhost.evil.com", "ws://a.com"),
        *("null", "", "a.com", "//a.com", "https://", "https://A.com", "HTTPS://a.com", "https://a.com/"),
        *("https://a.com/x", "https://a.com?x", "https://a.com#x", "https://u@a.com", "https://u:p@a.com"),
        *(
            "https://a..com",
            "https://a.com.",
            "https://a_b.com",
            "https://a com",
            "https://a.com:x",
            "https://a.com:99999",
        ),
        *("https://1.2.3", "https://[::1", "file://", "chrome-extension://abc", "https://a.com, https://b.com"),
    ],
)
def test_what_is_no_entry_is_refused(entry: str) -> None:
    """TC-6: no bare `*`; http for localhost alone."""
    with pytest.raises(ValueError, match="must be"):
        canonical_origin(entry)


@pytest.mark.parametrize(
    ("origin", "is_allowed"),
    [
        ("https://a.example.com", True),
        ("https://b-2.example.com", True),
        ("https://example.com", False),
        ("https://a.b.example.com", False),
        ("https://.example.com", False),
        ("https://*.example.com", False),
        ("http://a.example.com", False),
        ("https://a.example.com:8443", False),
        ("https://a.example.com.", False),
        ("https://A.example.com", False),
        ("https://evil@a.example.com", False),
        ("https://a@b.example.com", False),
        ("https://a_b.example.com", False),
        ("https://evil.com/.example.com", False),
        ("https://evil.com\\.example.com", False),
        ("https://-a.example.com", False),
        ("https://x.dev.example.org:8443", True),
        ("https://x.dev.example.org", False),
        ("null", False),
        ("", False),
    ],
)
def test_a_wildcard_stands_for_one_label(origin: str, is_allowed: bool) -> None:
    """TC-6, O1."""
    assert allows(frozenset({"https://*.example.com", "https://*.dev.example.org:8443", "null"}), origin) is is_allowed
