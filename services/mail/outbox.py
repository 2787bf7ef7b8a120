"""The outbox: mails are taken at once and sent in the background, with further attempts when the first one fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from services.errands import Errands
from services.mail.message import Mail, Mailer, MailRefused

log = structlog.get_logger()

MOST_MAILS = 1000
"""Mails that may wait; more are dropped, and the log says so."""
AT_ONCE = 4
DELAYS = (2.0, 10.0, 60.0, 300.0)
"""Seconds before each further attempt."""
TIMEOUT = 60.0
"""Seconds that one attempt may take."""


class Outbox:
    """Mails wait in memory: those of a process that ends abruptly are lost, and people ask for another one."""

    def __init__(
        self,
        mailer: Mailer,
        *,
        most: int = MOST_MAILS,
        at_once: int = AT_ONCE,
        delays: Sequence[float] = DELAYS,
        timeout: float = TIMEOUT,
    ) -> None:
        self._mailer = mailer
        self._delays = tuple(delays)
        self._timeout = timeout
        self._errands = Errands("mail", at_once=at_once, most=most)

    def post(self, mail: Mail) -> bool:
        """Takes a mail, and returns at once; False when too many wait and it was dropped."""
        attempts = 0

        async def attempt() -> float | None:
            nonlocal attempts
            attempts += 1
            try:
                async with asyncio.timeout(self._timeout):
                    await self._mailer.send(mail)
            except MailRefused as error:
                log.warning("a mail was refused", reason=str(error))
            except Exception as error:
                # Neither address nor text is for the log.
                last = attempts > len(self._delays)
                log.warning("a mail was not sent", attempt=attempts, given_up=last, error=type(error).__name__)
                return None if last else self._delays[attempts - 1]
            return None

        return self._errands.add(attempt)

    async def settled(self) -> None:
        """Returns when no mail waits."""
        await self._errands.settled()

    async def stop(self, grace: float = 5.0) -> None:
        """Gives the mails `grace` seconds to leave, and forgets the rest."""
        await self._errands.stop(grace)
