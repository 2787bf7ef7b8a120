from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.mail.addresses import is_address
from services.mail.message import Mail, to_message

GOOD = [
    "ada@example.com",
    "ada.b+tag@sub.example.co.uk",
    "o'neill@example.com",
    "x@y.zz",
    "user_1-2@xn--bcher-kva.example",
    "ada@bücher.example",
    "josé@example.com",
    "a" * 64 + "@example.com",
    "docomo..style.@example.jp",
]
BAD: list[object] = [
    None,
    5,
    ["ada@example.com"],
    {"$ne": ""},
    "",
    "bob",
    "@example.com",
    "ada@",
    "ada@localhost",
    "ada@127.0.0.1",
    "ada@example..com",
    "ada@-example.com",
    "ada@example-.com",
    "ada@exa_mple.com",
    "a" * 65 + "@example.com",
    "a@" + "b" * 64 + ".com",
    "a@" + ".".join(["b" * 60] * 5),
    "ada @example.com",
    " ada@example.com",
    "ada@example.com ",
    "ada@example.com\r\nBcc: eve@example.com",
    "ada@example.com\n",
    "ada\0@example.com",
    "ada@example.com,eve@example.com",
    "ada@example.com;eve@example.com",
    "Ada <ada@example.com>",
    '"ada"@example.com',
    "ada@eve@example.com",
    "ada@[1.2.3.4]",
    "ad\u200ba@example.com",
    "\uff41da@example.com",
    "\ud800@example.com",
]


@pytest.mark.parametrize("address", GOOD)
def test_what_people_have_is_an_address(address: str) -> None:
    assert is_address(address)


@pytest.mark.parametrize("address", BAD, ids=ascii)
def test_what_is_none_is_none(address: object) -> None:
    assert not is_address(address)


@given(st.text(max_size=30), st.text(max_size=30))
def test_every_address_makes_a_mail_with_one_recipient(local: str, domain: str) -> None:
    address = f"{local}@{domain}.example"
    if is_address(address):
        message = to_message(Mail(address, "s", "t"), "no-reply@example.com")
        assert [one.username for one in message["To"].addresses] == [local]
        assert "\n" not in str(message["To"])
