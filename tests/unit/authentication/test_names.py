"""User names and their keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooks.errors import BadRequest
from services.authentication.names import check_name, name_key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Bob", "bob"),
        (" bob ", "bob"),
        ("\uff22\uff4f\uff42", "bob"),
        ("STRASSE", "stra\u00dfe"),
        ("e\u0301va", "\u00e9va"),
        ("\ufb01n", "fin"),
        ("bo\u200bb", "bob"),
        ("\u2060bob\ufeff", "bob"),
        ("\u00a0bob\u3000", "bob"),
    ],
)
def test_names_that_look_alike_are_one(one: str, other: str) -> None:
    assert name_key(one) == name_key(other)


def test_different_names_stay_different() -> None:
    assert len({name_key(name) for name in ("bob", "bop", "b ob", "bob1", "böb")}) == 5


@given(st.text(max_size=40))
def test_the_key_of_a_key_is_the_key(name: str) -> None:
    key = name_key(name)
    assert name_key(key) == key
    assert name_key(name.upper().lower()) == name_key(name.upper())


@pytest.mark.parametrize(
    "name",
    [
        None,
        7,
        True,
        ["bob"],
        {"$ne": "x"},
        "",
        "   ",
        "\u200b",
        "a" * 129,
        "a\0b",
        "a\nb",
        "a\x7f",
        "\ud800",
        "a\u2028b",
    ],
)
def test_what_is_no_name_is_refused_with_a_sentence(name: object) -> None:
    with pytest.raises(BadRequest, match=r"^The email (must|may|contains) .+"):
        check_name(name, "email")


@pytest.mark.parametrize("name", ["b", "a" * 128, "Bob Builder", "bob@example.com", "李雷", "👩‍🚀"])
def test_all_else_is_a_name(name: str) -> None:
    assert check_name(name, "username") == name
