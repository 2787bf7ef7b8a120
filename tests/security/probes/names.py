"""What a tenant's records are called by, and words of the same form that nothing is called by."""

from __future__ import annotations

import re
import string
from dataclasses import dataclass, fields, replace
from typing import Any

_TURNED = str.maketrans(
    string.digits + string.ascii_lowercase + string.ascii_uppercase,
    "1234567890" + "bcdefahijklmnopqrstuvwxyzg" + "BCDEFAHIJKLMNOPQRSTUVWXYZG",
)
"""Each letter becomes another, those of hexadecimal numbers one of their own: an id remains an id."""
ID = "_id"


def turned(word: str) -> str:
    """A word of the same form and length that is another one."""
    return word.translate(_TURNED)


@dataclass(frozen=True)
class Names:
    """The names by which a tenant's things may be asked for. An attacker may know them all, but for `secret`."""

    app: str
    word: str
    """In every text by which records are found, such as a role's name."""
    secret: str
    """In other texts of the same records: whoever is told it was shown a record."""
    user: str = ""
    member: str = ""
    """The user who is a member of the organization."""
    organization: str = ""
    role: str = ""
    server: str = ""
    """The identifier of a resource server."""
    resource: str = ""
    """Its id."""
    connection: str = ""
    session: str = ""
    token: str = ""
    """Of the user's login."""
    job: str = ""
    letter: str = ""
    """The token in a mail that confirms an address."""
    invitation: str = ""
    """The token in one that invites into the organization."""
    id: str = ""
    """The record that is asked for."""

    @property
    def email(self) -> str:
        return f"{self.word}@mail.example"

    @property
    def host(self) -> str:
        return f"{self.word}.example.org"

    def known(self) -> Names:
        """The same without its secret, as another tenant may come to know it."""
        return replace(self, secret="found")

    def unknown(self) -> Names:
        """Names of the same form for what is nowhere."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return Names(**{name: turned(value) if name != "secret" else value for name, value in values.items()})


def without(text: str, *known: Names) -> str:
    """A text with the names in it made equal, so that what remains says whether there is such a thing."""
    values = {getattr(names, field.name) for names in known for field in fields(names)} - {""}
    for value in sorted(values, key=len, reverse=True):
        text = re.sub(re.escape(value), "NAME", text, flags=re.IGNORECASE)
    return text


def renamed(value: Any, names: Names, others: Names) -> Any:
    """A value with what `names` has in it replaced by what `others` has there."""
    if isinstance(value, dict):
        return {name: renamed(child, names, others) for name, child in value.items()}
    if isinstance(value, list):
        return [renamed(child, names, others) for child in value]
    if not isinstance(value, str):
        return value
    new = {getattr(names, field.name): getattr(others, field.name) for field in fields(names)}
    longest = sorted(new.keys() - {""}, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, longest)), lambda found: new[found[0]], value)


def form(value: Any) -> Any:
    """What of an answer may not depend on others: its fields, and the kinds of their values."""
    if isinstance(value, dict):
        return {name: form(child) for name, child in sorted(value.items())}
    if isinstance(value, list):
        return [form(child) for child in value]
    return type(value).__name__
