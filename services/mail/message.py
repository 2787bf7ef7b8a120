"""A mail, and the port through which it leaves."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import localtime, make_msgid
from typing import Protocol

from services.mail.addresses import is_address

LONGEST_HEADER = 200
"""Characters of a subject or a name."""


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail to one address. A line break cannot get into its headers: there is no such mail.

    Raises:
        ValueError: `to` is no address, or a header has control characters or is too long.
    """

    to: str
    subject: str
    text: str
    html: str | None = None
    from_name: str | None = None

    def __post_init__(self) -> None:
        if not is_address(self.to):
            raise ValueError("a mail goes to one address")
        for header in (self.subject, self.from_name or ""):
            if len(header) > LONGEST_HEADER or any(unicodedata.category(char) in _BREAKING for char in header):
                raise ValueError("a header is one line of at most 200 characters")


_BREAKING = frozenset({"Cc", "Cs", "Zl", "Zp"})


class MailFailed(Exception):
    """The mail was not taken; another attempt may succeed."""


class MailRefused(Exception):
    """The mail was refused for good."""


class Mailer(Protocol):
    """Sends mails, one at a time or several at once."""

    async def send(self, mail: Mail) -> None:
        """Returns when the mail is out of our hands.

        Raises:
            MailFailed: not this time. MailRefused: not ever.
        """
        ...


class PlatformMailer(Mailer, Protocol):
    """The server's own mailer, which the control plane uses as it is, and other apps under addresses of their own."""

    @property
    def sender(self) -> str:
        """The address that mails come from."""
        ...

    def sending_as(self, sender: str) -> Mailer:
        """The same with another sender."""
        ...


def to_message(mail: Mail, sender: str) -> EmailMessage:
    """The mail as it goes over the wire; `sender` is the address it comes from."""
    message = EmailMessage(policy=SMTP)
    local, _, domain = sender.rpartition("@")
    message["From"] = Address(mail.from_name or "", local, domain)
    local, _, domain = mail.to.rpartition("@")
    message["To"] = Address("", local, domain.encode("idna").decode())
    message["Subject"] = mail.subject
    message["Date"] = localtime()
    message["Message-ID"] = make_msgid(domain=sender.rpartition("@")[2])
    # Answering machines stay silent.
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail.text)
    if mail.html is not None:
        message.add_alternative(mail.html, subtype="html")
    return message
