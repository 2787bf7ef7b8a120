from __future__ import annotations

import pytest

from hooks.errors import BadRequest
from hooks.tenant import PasswordSettings
from services.authentication.policy import check_policy, common_passwords


@pytest.mark.parametrize("password", ["password1", "PassWord1", "12345678", "iloveyou1", "QWERTY123"])
def test_what_everybody_tries_first_is_no_password(password: str) -> None:
    with pytest.raises(BadRequest, match="among the first that are tried"):
        check_policy(password, PasswordSettings())


@pytest.mark.parametrize("password", ["aaaa bbbb", "correct horse", "ßßßßßßßß", "🦊" * 8, "x" * 127 + "y"])
def test_there_are_no_rules_about_kinds_of_characters(password: str) -> None:
    assert check_policy(password, PasswordSettings()) == password


@pytest.mark.parametrize("password", [None, 12345678, ["correct horse"], "short", "x" * 129, "nul\0 inside"])
def test_what_cannot_be_a_password_is_none(password: object) -> None:
    with pytest.raises(BadRequest):
        check_policy(password, PasswordSettings())


def test_a_tenant_asks_for_more() -> None:
    strict = PasswordSettings(min=12, max=64)
    with pytest.raises(BadRequest, match="12 to 64 characters"):
        check_policy("x1y2z3w4v5u", strict)
    with pytest.raises(BadRequest, match="12 to 64 characters"):
        check_policy("x1" * 33, strict)
    assert check_policy("x1y2z3w4v5u6", strict)


def test_the_list_is_one() -> None:
    assert len(common_passwords()) == 30_000
    assert all(password == password.casefold() for password in common_passwords())
