"""Templates: the texts of the mails that tenants may replace, with `{placeholders}` that are filled in and nothing more."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args
from urllib.parse import urlencode, urlsplit

from services.mail.message import LONGEST_HEADER, Mail

Kind = Literal["verify", "reset", "change_email", "invite", "organization_invite", "taken", "email_changed"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
PLACEHOLDERS: Final = ("link", "code", "app", "name", "hours")
"""The link that ends the matter and the code in it, the app's name, the user's name, and how long the link works."""
LONGEST_VALUE: Final = 64
"""Characters of a name in a mail: one that a stranger chose has no room for a letter of his own."""
_PLACEHOLDER = re.compile(r"\{(\w*)\}")


@dataclass(frozen=True, slots=True)
class Template:
    """A mail with placeholders. Values that go into `html` are escaped."""

    subject: str
    text: str
    html: str | None = None


DEFAULTS: Final[Mapping[Kind, Template]] = {
    "verify": Template(
        "Confirm your address for {app}",
        "Welcome to {app}.\n\nTo confirm that this address is yours, use:\n\n    {link}\n\n"
        "It works for {hours} hours. If you did not sign up, you need not do anything.\n",
    ),
    "reset": Template(
        "A new password for {app}",
        "Somebody asked for a new password for the account {name} at {app}. To choose one, use:\n\n    {link}\n\n"
        "It works once, for {hours} hours. If it was not you, you need not do anything: your password stays.\n",
    ),
    "change_email": Template(
        "Confirm your new address for {app}",
        "To use this address for your account at {app}, use:\n\n    {link}\n\n"
        "It works for {hours} hours. If you did not ask for it, you need not do anything.\n",
    ),
    "invite": Template(
        "You are invited to {app}",
        "You are invited to {app}. To accept, use:\n\n    {link}\n\nIt works for {hours} hours.\n",
    ),
    "organization_invite": Template(
        "You are invited to {name} at {app}",
        "You are invited to join {name} at {app}. Log in with the account that has this address, then use:\n\n    {link}\n\n"
        "It works once, for {hours} hours.\n",
    ),
    "taken": Template(
        "You already have an account at {app}",
        "Somebody asked {app} for a new account with this address or name, which has one already. Nothing has changed.\n\n"
        "If it was you: log in with the account that you have, or ask for a new password.\n",
    ),
    "email_changed": Template(
        "Your address at {app} was changed",
        "Your account at {app} now has another e-mail address, and mails go there.\n\n"
        "If it was not you, ask the people of {app} for help.\n",
    ),
}
CODED: Final = frozenset(KINDS) - {"taken", "email_changed"}
"""Mails that are worth nothing without their link or code."""


def check_template(kind: Kind, template: Template) -> None:
    """Refuses a template that could not be sent or would be of no use.

    Raises:
        ValueError: an unknown placeholder, no link, or a subject of several lines; the sentence says which.
    """
    for part in (template.subject, template.text, template.html or ""):
        for name in _PLACEHOLDER.findall(part):
            if name not in PLACEHOLDERS:
                raise ValueError(f"'{{{name}}}' is none of {', '.join(f'{{{known}}}' for known in PLACEHOLDERS)}")
    if kind in CODED:
        for label, body in (("text", template.text), ("html", template.html)):
            if body is not None and "{link}" not in body and "{code}" not in body:
                raise ValueError(f"{label}: must contain {{link}} or {{code}}")
    if not template.subject.strip() or template.subject != one_line(template.subject, LONGEST_HEADER):
        raise ValueError(f"subject: must be one line of at most {LONGEST_HEADER} characters")


def compose(template: Template, to: str, values: Mapping[str, str], *, from_name: str | None = None) -> Mail:
    """The mail of a template; `values` are by placeholder. Each value stays one line, whatever it contains."""
    plain = {key: one_line(value, 2048 if key in ("link", "code") else LONGEST_VALUE) for key, value in values.items()}
    escaped = {key: html.escape(value) for key, value in plain.items()}
    return Mail(
        to,
        one_line(_fill(template.subject, plain), LONGEST_HEADER),
        _fill(template.text, plain),
        None if template.html is None else _fill(template.html, escaped),
        None if from_name is None else one_line(from_name, LONGEST_VALUE),
    )


def link_to(url: str | None, action: str, code: str) -> str:
    """The address of the app's page with `action` and `token` in it; without a page the code alone.

    They go into the fragment if the address has one, where no server's log keeps them, else into the query.
    """
    if url is None:
        return code
    page, hash, fragment = url.partition("#")
    last = fragment if hash else page
    return f"{url}{'&' if '?' in last else '?'}{urlencode({'action': action, 'token': code})}"


def check_page(url: str) -> str:
    """The address of a page that links may lead to, as it is.

    Raises:
        ValueError: it is neither https nor this very machine.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        raise ValueError("must be an address such as https://app.example.com/#/confirm") from error
    local = parts.scheme == "http" and host in ("localhost", "127.0.0.1", "::1")
    odd = not url.isprintable() or " " in url or "@" in parts.netloc or len(url) > 1024
    if odd or not host or not (parts.scheme == "https" or local):
        raise ValueError("must be an https address such as https://app.example.com/#/confirm, or http on localhost")
    return url


def one_line(text: str, longest: int) -> str:
    """The text without control characters and line breaks, cut to a length."""
    visible = "".join(" " if unicodedata.category(char) in _UNTYPABLE else char for char in text)
    return " ".join(visible.split())[:longest].rstrip()


_UNTYPABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def _fill(text: str, values: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda found: values.get(found[1], ""), text)
