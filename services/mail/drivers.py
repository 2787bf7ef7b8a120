"""The drivers of the kind `mail`: an SMTP server of an app's own, and a folder for development."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hooks.errors import Forbidden, Unavailable
from services.drivers import Driver, Drivers, Plan, ProbeFailed
from services.mail.addresses import is_address, tenant_address
from services.mail.folder import LogMailer
from services.mail.message import MailFailed
from services.mail.smtp import Connect, SmtpMailer, SmtpServer, is_here

KIND = "mail"
_SENDER: Mapping[str, Any] = {"type": "string", "maxLength": 254}


class SmtpDriver(Driver):
    """`{host, port, tls, user, sender}`; the secret is the user's password."""

    schema: Mapping[str, Any] = {
        "host": {"type": "string", "required": True, "pattern": r"^[A-Za-z0-9.:-]{1,253}$"},
        "port": {"type": "integer", "required": True, "minimum": 1, "maximum": 65535},
        "tls": {"enum": ["implicit", "starttls", "none"], "required": True},
        "user": {"type": "string", "minLength": 1, "maxLength": 320},
        "sender": {**_SENDER, "required": True},
    }
    bound = frozenset({"host", "port", "tls"})

    def __init__(self, connect: Connect) -> None:
        """`connect` reaches the hosts that apps name, and no private ones."""
        self._connect = connect

    def check(self, options: Mapping[str, Any]) -> None:
        """Raises ValueError: no sender, or a password that everybody on the way could read."""
        _check_sender(options)
        if options["tls"] == "none" and "user" in options and not is_here(options["host"]):
            raise ValueError("must not log in without encryption on another machine: everybody on the way reads it")

    def shared(self, options: Mapping[str, Any], app_id: str) -> Mapping[str, Any]:
        """Nobody sends as the one who shares: each app has an address of its own below the same domain."""
        return {**options, "sender": tenant_address(options["sender"], app_id)}

    async def open(self, plan: Plan) -> SmtpMailer:
        """A mailer; it connects for each mail."""
        options = plan.options
        if options.get("user") is not None and plan.secret is None:
            raise Unavailable("The app's mail server asks for a password, and none is set")
        server = SmtpServer(options["host"], options["port"], options["tls"], options.get("user"), plan.secret)
        return SmtpMailer(server, options["sender"], connect=None if plan.is_trusted else self._connect)

    async def probe(self, client: SmtpMailer) -> None:
        """Connects and logs in. What exactly fails at a host that an app has named is not told."""
        try:
            await client.probe()
        except (MailFailed, Forbidden) as error:
            raise ProbeFailed("The mail server cannot be reached, or does not take the login") from error


class LogDriver(Driver):
    """`{sender}`: mails become files in the server's own folder."""

    schema: Mapping[str, Any] = {"sender": _SENDER}

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def check(self, options: Mapping[str, Any]) -> None:
        """Raises ValueError: the sender is no address."""
        if "sender" in options:
            _check_sender(options)

    def shared(self, options: Mapping[str, Any], app_id: str) -> Mapping[str, Any]:
        """As with SMTP."""
        return {**options, "sender": tenant_address(options["sender"], app_id)} if "sender" in options else options

    async def open(self, plan: Plan) -> LogMailer:
        """A mailer."""
        sender = plan.options.get("sender")
        return LogMailer(self._folder) if sender is None else LogMailer(self._folder, sender)


def register_mail(drivers: Drivers, *, connect: Connect, folder: Path) -> None:
    """Adds the drivers of mails."""
    drivers.register(KIND, "smtp", SmtpDriver(connect))
    drivers.register(KIND, "log", LogDriver(folder))


def _check_sender(options: Mapping[str, Any]) -> None:
    if not is_address(options["sender"]):
        raise ValueError("has a sender that is no e-mail address")
