"""SmtpMailer: sends mails through an SMTP server."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import parse_qs, unquote, urlsplit

import aiosmtplib

from hooks.errors import Forbidden
from services.mail.message import Mail, MailFailed, MailRefused, to_message

TIMEOUT = 30.0
"""Seconds for connecting, and for each answer of the server."""
PATIENCE = 5.0
"""The same while a configuration is tried."""

Connect = Callable[[str, int], Awaitable[socket.socket]]
"""Connects to a host and port. Raises OSError, or Forbidden for a host that is not to be reached."""


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where to and how: `tls` from the first byte, by `starttls`, or `none`, which is for servers on the same machine."""

    host: str
    port: int
    tls: str
    user: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        return f"SmtpServer({self.host!r}, {self.port}, {self.tls!r})"

    @classmethod
    def parse(cls, url: str) -> SmtpServer:
        """The server of `smtps://user:password@host:465`, `smtp://host:587` (STARTTLS) or `smtp://host:25?tls=none`.

        Raises:
            ValueError: it is no such URL. The sentence does not repeat it.
        """
        form = "must be smtps://user:password@host:port, or smtp://... for STARTTLS"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ValueError(form) from error
        options = parse_qs(parts.query)
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname or parts.path not in ("", "/"):
            raise ValueError(form)
        if options not in ({}, {"tls": ["none"]}) or (options and parts.scheme == "smtps") or parts.fragment:
            raise ValueError(f"{form}; the only option is ?tls=none")
        tls = "implicit" if parts.scheme == "smtps" else "none" if options else "starttls"
        if tls == "none" and parts.password and not is_here(parts.hostname):
            raise ValueError(
                "must not carry a password with ?tls=none to another machine: everybody on the way reads it"
            )
        user = unquote(parts.username) if parts.username else None
        password = unquote(parts.password) if parts.password else None
        return cls(parts.hostname, port or (465 if tls == "implicit" else 587), tls, user, password)


class SmtpMailer:
    """Opens a connection for each mail."""

    def __init__(
        self, server: SmtpServer, sender: str, *, context: ssl.SSLContext | None = None, connect: Connect | None = None
    ) -> None:
        """`sender` is the address that mails come from; `context` is for servers with certificates of their own.

        `connect` reaches the server; without it, any host is reached.
        """
        self._server = server
        self._sender = sender
        self._context = context
        self._connect = connect

    @property
    def sender(self) -> str:
        """The address that mails come from."""
        return self._sender

    def sending_as(self, sender: str) -> SmtpMailer:
        """The same with another sender."""
        return SmtpMailer(self._server, sender, context=self._context, connect=self._connect)

    async def probe(self) -> None:
        """Connects, encrypts and logs in as for a mail, and sends none.

        Raises:
            MailFailed: that is not possible. Forbidden: the host is not to be reached.
        """
        try:
            client = await self._client(PATIENCE)
            async with client:
                await client.noop()
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise MailFailed(type(error).__name__) from error

    async def send(self, mail: Mail) -> None:
        """Hands the mail over to the server.

        Raises:
            MailFailed: no server, or it will not take mail now. MailRefused: it will not take this mail.
        """
        try:
            client = await self._client(TIMEOUT)
            async with client:
                await client.send_message(to_message(mail, self._sender))
        except aiosmtplib.SMTPRecipientsRefused as error:
            codes = [refused.code for refused in error.recipients]
            raise _failure(min(codes, default=0)) from error
        except (aiosmtplib.SMTPSenderRefused, aiosmtplib.SMTPDataError) as error:
            raise _failure(error.code) from error
        except aiosmtplib.SMTPNotSupported as error:
            raise MailRefused("the server lacks what this mail needs") from error
        except (aiosmtplib.SMTPException, OSError, ValueError, Forbidden) as error:
            raise MailFailed(type(error).__name__) from error

    async def _client(self, patience: float) -> aiosmtplib.SMTP:
        server, sock = self._server, None
        if self._connect is not None:
            sock = await self._connect(server.host, server.port)
        return aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port if sock is None else None,
            sock=sock,
            username=server.user,
            password=server.password,
            use_tls=server.tls == "implicit",
            start_tls=server.tls == "starttls",
            tls_context=self._context,
            timeout=patience,
        )


def _failure(code: int) -> MailFailed | MailRefused:
    return MailRefused(f"the server answered {code}") if code >= 500 else MailFailed(f"the server answered {code}")


def is_here(host: str) -> bool:
    """Whether a host is this very machine."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
