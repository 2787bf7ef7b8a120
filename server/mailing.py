"""Mails of apps, put together: through a provider of their own or a shared one, or the server's own mailer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from hooks.tenant import Tenant
from server.settings import Settings
from services.control.inheritance.effective import EffectiveSettings
from services.control.providers import ProviderFactory
from services.mail.addresses import tenant_address
from services.mail.drivers import KIND
from services.mail.mailers import choose_mailer
from services.mail.message import Mail, Mailer, PlatformMailer
from services.mail.outbox import Mailers


def platform_mailer(settings: Settings) -> PlatformMailer:
    """The server's own mailer.

    Raises:
        ValueError: the sentence begins with the variable that is wrong.
    """
    url = None if settings.smtp_url is None else settings.smtp_url.get_secret_value()
    return choose_mailer(url, settings.mail_from, settings.data / "mail")


def mailers(factory: ProviderFactory, effective: EffectiveSettings, platform: PlatformMailer) -> Mailers:
    """Gives out the mailers of apps: nobody but the control plane sends under the server's own address (RF-12)."""

    def own(tenant: Tenant) -> Mailer:
        return platform if tenant.is_control_plane else platform.sending_as(tenant_address(platform.sender, tenant.id))

    @asynccontextmanager
    async def mailer_of(tenant: Tenant) -> AsyncIterator[Mailer]:
        name = await effective.value(tenant, "sender_name")
        async with factory.client(KIND, tenant) as mailer:
            yield mailer if name is None else _Named(mailer, name)

    factory.fall_back(KIND, own)
    return mailer_of


class _Named:
    """A mailer under a person's or an app's name."""

    def __init__(self, mailer: Mailer, name: str) -> None:
        self._mailer = mailer
        self._name = name

    async def send(self, mail: Mail) -> None:
        """As the mailer that it is."""
        await self._mailer.send(replace(mail, from_name=self._name))
