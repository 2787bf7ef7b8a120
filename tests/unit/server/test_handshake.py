"""Which app is named, which origin may ask, and what is a token in a header."""

from __future__ import annotations

from typing import Any

import pytest
from multidict import CIMultiDict, MultiDict

from hooks.errors import BadRequest, Forbidden
from hooks.tenant import Tenant
from server.cors import check_origin
from server.handshake import Named, bearer, named

ACME = Tenant("acme", "Acme", allowed_origins=frozenset({"https://a.com", "http://localhost:3030"}))
KEY, OTHER = f"pk_{'a' * 24}", f"pk_{'b' * 24}"
EVIL = """
https://a.com.evil.com https://evil-a.com http://a.com https://a.com:443 https://a.com. https://A.com HTTPS://a.com
https://a.com@evil https://evil@a.com null https://a.com/ https://a.com/x https://a.com?x https://a.com#x https://аcom
https://а.com https://a.com%00 https://a.com\\evil http://localhost http://localhost:30300 http://127.0.0.1:3030 file://
https://*.com * https://sub.a.com //a.com a.com https://a.co ws://a.com https://a.com,https://a.com
""".split()


@pytest.mark.parametrize("origin", [*EVIL, "", " https://a.com", "https://a.com "])
def test_origins_are_compared_exactly(origin: str) -> None:
    with pytest.raises(Forbidden) as raised:
        check_origin(ACME, [origin])
    assert raised.value.data == {"reason": "OriginNotAllowed"}


def test_own_origins_and_none_pass() -> None:
    check_origin(ACME, [])
    check_origin(ACME, ["https://a.com"])
    check_origin(ACME, ["http://localhost:3030"])
    with pytest.raises(Forbidden):
        check_origin(ACME, ["https://a.com", "https://a.com"])
    with pytest.raises(Forbidden):
        check_origin(Tenant("none", "None"), ["https://a.com"])


@pytest.mark.parametrize(
    ("header", "token"),
    [
        (None, None),
        ("", None),
        ("  ", None),
        ("Bearer abc", "abc"),
        ("bearer abc", "abc"),
        ("BEARER   abc  ", "abc"),
        ("JWT abc", "abc"),
        ("abc", "abc"),
        ("Basic abc", None),
        ("Digest a b", None),
        ("Bearer", None),
        ("Bearer ", None),
        ("jwt", None),
    ],
)
def test_tokens_of_a_header(header: str | None, token: str | None) -> None:
    assert bearer(header) == token


@pytest.mark.parametrize(
    ("query", "headers", "auth"),
    [
        ([("tenant", KEY)], [], None),
        ([], [("X-Tenant-ID", KEY)], None),
        ([], [], {"tenant": KEY}),
        ([("tenant", KEY)], [("x-tenant-id", KEY)], {"tenant": KEY}),
    ],
)
def test_public_keys_that_agree(query: Any, headers: Any, auth: Any) -> None:
    """TC-2."""
    assert named(MultiDict(query), CIMultiDict(headers), auth) == Named(key=KEY)


def test_nothing_need_be_named() -> None:
    assert not named(MultiDict(), CIMultiDict()).is_given


@pytest.mark.parametrize(
    ("query", "headers", "auth"),
    [
        ([("appId", "acme")], [], None),
        ([], [("X-App-Id", "acme")], None),
        ([], [], {"appId": "acme"}),
        ([("appId", "acme")], [("x-app-id", "acme")], {"appId": "acme", "token": 1}),
        ([("appId", "acme"), ("x", "1"), ("x", "2")], [], ["acme"]),
    ],
)
def test_namings_that_agree(query: Any, headers: Any, auth: Any) -> None:
    assert named(MultiDict(query), CIMultiDict(headers), auth) == Named("acme")


@pytest.mark.parametrize(
    ("query", "headers", "auth"),
    [
        ([("appId", "")], [], None),
        ([("tenant", KEY), ("tenant", KEY)], [], None),
        ([("tenant", KEY)], [("X-Tenant-ID", OTHER)], None),
        ([("tenant", KEY)], [], {"tenant": OTHER}),
        ([], [("x-tenant-id", KEY), ("x-tenant-id", OTHER)], None),
        ([], [("x-tenant-id", "")], None),
        ([], [], {"tenant": {"$ne": ""}}),
        ([("appId", "acme"), ("appId", "acme")], [], None),
        ([("appId", "acme")], [("x-app-id", "globex")], None),
        ([], [("x-app-id", "acme"), ("x-app-id", "globex")], None),
        ([("appId", "acme")], [], {"appId": "globex"}),
        ([("appId", "acme")], [], {"appId": None}),
        ([("appId", "acme")], [], {"appId": ["acme"]}),
        ([], [], {"appId": 5}),
        ([], [("x-app-id", "")], {"appId": "acme"}),
    ],
)
def test_namings_that_do_not(query: Any, headers: Any, auth: Any) -> None:
    """TC-2, O3."""
    with pytest.raises(BadRequest):
        named(MultiDict(query), CIMultiDict(headers), auth)
