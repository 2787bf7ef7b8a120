"""What actions are asked with: fields of the data, each of which is a text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hooks.errors import BadRequest
from hooks.tenant import Tenant
from services.authentication.names import LONGEST, name_key
from services.mail.addresses import is_address


def text_of(data: Mapping[str, Any], field: str) -> str:
    """A text that is not empty.

    Raises:
        BadRequest: it is missing, or something else.
    """
    value = data.get(field)
    if value is None or value == "":
        raise BadRequest(f"The {field} is missing")
    if not isinstance(value, str):
        raise BadRequest(f"The {field} must be a text")
    return value


def address_of(data: Mapping[str, Any], field: str = "email") -> str:
    """An e-mail address.

    Raises:
        BadRequest: it is none.
    """
    address = text_of(data, field)
    if not is_address(address):
        raise invalid_address(field)
    return address


def key_of(data: Mapping[str, Any], tenant: Tenant) -> str | None:
    """The key under which the user would be found whom the data name; None for what nobody can be called.

    Raises:
        BadRequest: the name is missing, or no text.
    """
    name = text_of(data, tenant.auth.username_field)
    possible = len(name) <= LONGEST and not any("\ud800" <= char <= "\udfff" for char in name)
    return name_key(name) if possible else None


def invalid_address(field: str) -> BadRequest:
    """The error for what is no e-mail address."""
    return BadRequest(f"The {field} must be an e-mail address such as ada@example.com")
