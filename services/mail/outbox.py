"""The outbox: mails leave as jobs, so that they survive the process that wrote them, and are tried again when sending fails."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from typing import Protocol

import structlog

from hooks.errors import FeathersError
from hooks.tenant import Tenant, tenant_scope
from services.jobs.model import GiveUp, Job
from services.jobs.queue import Jobs
from services.mail.message import Mail, Mailer, MailRefused

log = structlog.get_logger()

JOB = "mail"
ATTEMPTS = 8
"""With pauses of 2 s, 4 s and so on: for some minutes."""
TIMEOUT = 60.0
"""Seconds that one attempt may take."""


class Seal(Protocol):
    """Encrypts what is kept, bound to a place: mails hold addresses, and links that log in."""

    def seal(self, secret: bytes, *place: str) -> bytes:
        """The secret, encrypted."""
        ...

    def open(self, sealed: bytes, *place: str) -> bytes:
        """The secret that was sealed for this place."""
        ...


Mailers = Callable[[Tenant], AbstractAsyncContextManager[Mailer]]
"""The mailer of a tenant, held for one mail."""


class Outbox:
    """Posts mails of a tenant, and sends those of all tenants."""

    def __init__(self, jobs: Jobs, mailers: Mailers, seal: Seal) -> None:
        """Registers itself as the handler of jobs of the name `mail`."""
        self._jobs = jobs
        self._mailers = mailers
        self._seal = seal
        jobs.handle(JOB, self._send, writes=False, attempts=ATTEMPTS, timeout=TIMEOUT)

    async def post(self, tenant: Tenant, mail: Mail) -> bool:
        """Takes a mail on; False when it cannot be kept, which the log tells: people ask for another one."""
        sealed = self._seal.seal(json.dumps(asdict(mail)).encode(), JOB, tenant.id)
        try:
            with tenant_scope(tenant):
                await self._jobs.enqueue(JOB, {"sealed": base64.b64encode(sealed).decode()})
        except FeathersError as error:
            log.warning("a mail was not taken", tenant=tenant.id, error=type(error).__name__)
            return False
        return True

    async def _send(self, job: Job) -> None:
        sealed = base64.b64decode(job.payload["sealed"])
        mail = Mail(**json.loads(self._seal.open(sealed, JOB, job.tenant.id)))
        try:
            async with self._mailers(job.tenant) as mailer:
                await mailer.send(mail)
        except MailRefused as error:
            # Neither address nor text is for the log.
            log.warning("a mail was refused", reason=str(error))
            raise GiveUp("the mail server refused it") from error
