"""The password policy: a length, and nothing that everybody tries first. No rules about kinds of characters."""

from __future__ import annotations

from functools import cache

from zxcvbn.frequency_lists import FREQUENCY_LISTS  # type: ignore[import-untyped]

from hooks.context import HookContext
from hooks.errors import BadRequest
from hooks.tenant import PasswordSettings
from services.authentication.passwords import check_password


def check_policy(password: object, settings: PasswordSettings) -> str:
    """A new password as it is.

    Raises:
        BadRequest: it cannot be a password, has not the length that the tenant asks for, or is among the 30 000 most
            common ones of breached databases, in whatever case.
    """
    accepted = check_password(password)
    if not settings.min <= len(accepted) <= settings.max:
        raise BadRequest(f"The password must have {settings.min} to {settings.max} characters")
    if accepted.casefold() in common_passwords():
        raise BadRequest("This password is among the first that are tried: choose another one")
    return accepted


def check_new_password(context: HookContext) -> None:
    """Before create, update and patch: a password that is sent keeps the tenant's policy.

    Raises:
        BadRequest: it does not.
    """
    if isinstance(context.data, dict) and "password" in context.data:
        check_policy(context.data["password"], context.tenant.auth.password)


@cache
def common_passwords() -> frozenset[str]:
    """Common passwords in lower case."""
    return frozenset(FREQUENCY_LISTS["passwords"])
