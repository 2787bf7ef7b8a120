"""Which mailer the settings ask for."""

from __future__ import annotations

from pathlib import Path

from services.mail.addresses import is_address
from services.mail.folder import LogMailer
from services.mail.message import PlatformMailer
from services.mail.smtp import SmtpMailer, SmtpServer


def choose_mailer(smtp_url: str | None, mail_from: str | None, folder: Path) -> PlatformMailer:
    """A mailer over SMTP, or without a URL one that writes mails to `folder`.

    Raises:
        ValueError: the sentence begins with the variable that is wrong.
    """
    if mail_from is not None and not is_address(mail_from):
        raise ValueError("ROOST_MAIL_FROM must be an e-mail address, such as no-reply@example.com")
    if smtp_url is None:
        return LogMailer(folder) if mail_from is None else LogMailer(folder, mail_from)
    if mail_from is None:
        raise ValueError("ROOST_MAIL_FROM must be set with ROOST_SMTP_URL: mails need an address that they come from")
    try:
        return SmtpMailer(SmtpServer.parse(smtp_url), mail_from)
    except ValueError as error:
        raise ValueError(f"ROOST_SMTP_URL {error}") from error
