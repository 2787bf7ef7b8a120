"""Letters: the mails about accounts, in the tenant's wording, and not too many of them."""

from __future__ import annotations

from typing import Any

import structlog

from hooks.tenant import Tenant
from services.accounts.tokens import LIFETIMES, AccountTokens, Purpose, mail_subject
from services.authentication.names import name_key
from services.mail.addresses import is_address
from services.mail.outbox import Outbox
from services.mail.templates import DEFAULTS, Kind, Template, compose, link_to

log = structlog.get_logger()


class Letters:
    """Writes mails and posts them. An address gets at most one of a kind in a minute, and five in an hour."""

    def __init__(self, outbox: Outbox, tokens: AccountTokens) -> None:
        self._outbox = outbox
        self._tokens = tokens

    async def send_link(
        self, tenant: Tenant, purpose: Purpose, subject: str, to: str, *, name: str = "", **details: Any
    ) -> None:
        """Issues a token and mails it; `details` come back when it is used, `name` is the user's for the text."""
        if not await self._may_send(tenant, purpose, to):
            return
        token = await self._tokens.issue(tenant, purpose, subject, to, **details)
        hours = int(LIFETIMES[purpose].total_seconds() // 3600)
        link = link_to(tenant.auth.email.url, purpose.replace("_", "-") if purpose != "invite" else _ACCEPT, token)
        await self._post(tenant, purpose, to, {"link": link, "code": token, "name": name, "hours": str(hours)})

    async def send_notice(self, tenant: Tenant, kind: Kind, to: str, *, name: str = "") -> None:
        """Mails a notice without a token."""
        if await self._may_send(tenant, kind, to):
            await self._post(tenant, kind, to, {"name": name})

    async def _may_send(self, tenant: Tenant, kind: Kind, to: object) -> bool:
        if not is_address(to):
            # Names and profiles of earlier days need not be addresses.
            return False
        allowed = await self._tokens.may_mail(tenant, kind, mail_subject(name_key(str(to))))
        if not allowed:
            log.info("a mail was not sent: its address has had enough of them", tenant=tenant.id, kind=kind)
        return allowed

    async def _post(self, tenant: Tenant, kind: Kind, to: str, values: dict[str, str]) -> None:
        settings = tenant.auth.email
        own = settings.templates.get(kind)
        template = DEFAULTS[kind] if own is None else Template(str(own["subject"]), str(own["text"]), own.get("html"))
        app = settings.from_name or tenant.name
        await self._outbox.post(tenant, compose(template, to, {"app": app, **values}, from_name=app))


_ACCEPT = "accept-invitation"
