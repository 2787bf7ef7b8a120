"""People with mailboxes: clients of an app, and what has come for them."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import pytest

from hooks.context import Record
from hooks.errors import FeathersError
from server.main import Roost
from tests.integration.authentication.clients import PASSWORD, Client
from tests.support.jobs import mailed

APPS = """
tenants:
  - id: mailed
    name: Mailed
    auth:
      username_field: email
      email: {url: "https://app.example/#/confirm"}
  - id: named
    name: Named
  - id: strict
    name: Strict
    auth:
      username_field: email
      require_verified: true
      password: {min: 12}
      email:
        from_name: The Strict
        url: "https://strict.example/confirm"
        templates:
          verify: {subject: "Hi {name} of {app}", text: "code {code}", html: "<a href='{link}'>{app}</a>"}
  - id: shy
    name: Shy
    auth: {username_field: email, enumeration: protected}
  - id: shynamed
    name: Shy
    auth: {enumeration: protected}
"""
ADA, BOB, EVE = "ada@a.example", "bob@b.example", "eve@e.example"
NEW = "another horse"
INVALID = "This link does not work any more: ask for a new one"
_TOKEN = re.compile(r"(?:token=|^\s*|code )([A-Za-z0-9_-]{43})\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Letter:
    """A mail that has come."""

    to: str
    sender: str
    subject: str
    text: str
    html: str | None

    @property
    def token(self) -> str:
        """The one token in it."""
        (found,) = set(_TOKEN.findall(self.text))
        return str(found)


class Mailbox:
    """All mails that a server has made."""

    def __init__(self, roost: Roost) -> None:
        self.roost = roost
        self.folder: Path = roost.settings.data / "mail"
        self.seen: set[Path] = set()

    async def news(self) -> list[Letter]:
        """The mails that have come since this was last asked, once all that was to be done has been done."""
        await mailed(self.roost)
        return await asyncio.to_thread(self._read)

    async def one(self) -> Letter:
        """The one mail that has come."""
        (letter,) = await self.news()
        return letter

    def _read(self) -> list[Letter]:
        files = [file for file in sorted(self.folder.glob("*.eml")) if file not in self.seen]
        self.seen.update(files)
        return [_letter(message_from_bytes(file.read_bytes(), policy=default)) for file in files]


class Person(Client):
    """A client that knows the accounts service."""

    async def ask(self, action: str, **data: Any) -> Record:
        """What an action answers."""
        answer: Record = await self.call("accounts", "create", data={"action": action, **data})
        return answer

    async def refused(self, action: str, **data: Any) -> FeathersError:
        """The error with which an action is refused."""
        with pytest.raises(FeathersError) as caught:
            await self.ask(action, **data)
        return caught.value


async def can_log_in(roost: Roost, app: str, name: str, password: str = PASSWORD) -> bool:
    """Whether name and password log in."""
    try:
        await Client(roost, app).log_in(name, password)
    except FeathersError:
        return False
    return True


def _letter(message: EmailMessage) -> Letter:
    text, html = message.get_body(("plain",)), message.get_body(("html",))
    assert text is not None
    return Letter(
        str(message["To"]),
        str(message["From"]),
        str(message["Subject"]),
        text.get_content().replace("\r\n", "\n"),
        None if html is None else html.get_content(),
    )
