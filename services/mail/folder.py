"""LogMailer: for development. Mails become files, and the log says where; what they say stays out of the log."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from pathlib import Path

import structlog

from services.mail.message import Mail, MailFailed, to_message

log = structlog.get_logger()

MOST_FILES = 500
"""Mails that are kept; the oldest go first."""


class LogMailer:
    """Writes each mail to a file `<folder>/<time>-<random>.eml`, which only the server's own user may read."""

    def __init__(self, folder: Path, sender: str = "roost@localhost", *, most_files: int = MOST_FILES) -> None:
        self._folder = folder
        self._sender = sender
        self._most_files = most_files

    @property
    def sender(self) -> str:
        """The address that mails come from."""
        return self._sender

    def sending_as(self, sender: str) -> LogMailer:
        """The same with another sender."""
        return LogMailer(self._folder, sender, most_files=self._most_files)

    async def send(self, mail: Mail) -> None:
        """Keeps the mail.

        Raises:
            MailFailed: the folder cannot be written.
        """
        content = to_message(mail, self._sender).as_bytes()
        try:
            file = await asyncio.to_thread(self._write, content)
        except OSError as error:
            raise MailFailed(f"{self._folder}: {error.strerror}") from error
        log.info("a mail was made; it is sent only where ROOST_SMTP_URL is set", file=str(file))

    def _write(self, content: bytes) -> Path:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self._folder / f"{time.time_ns()}-{secrets.token_hex(4)}.eml"
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(content)
        for old in sorted(self._folder.glob("*.eml"))[: -self._most_files]:
            old.unlink(missing_ok=True)
        return file
