"""Settings of apps, put together: their own, what they inherit, and the service by which they are seen and changed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from hooks.silence import silence
from hooks.tenant import Tenant
from services.application import Application
from services.audit import Audit
from services.control.catalogue import Catalogue
from services.control.inheritance.builtin import builtin_keys
from services.control.inheritance.copying import Copying
from services.control.inheritance.credentials import Credentials
from services.control.inheritance.effective import EffectiveSettings
from services.control.inheritance.own import OwnSettings
from services.control.inheritance.urls import FlowUrls
from services.control.logs import BothLogs
from services.control.sagas import Sagas
from services.control.services.provider_settings import ProviderSettings, seal
from services.control.services.settings import METHODS, PATH, RULES, SettingsService
from services.control.tenants import Tenants
from services.entities.records import Entities
from services.entities.registry import CONNECTIONS
from services.isolation import Isolation
from services.registration import HooksByKind

_QUIET: HooksByKind = {"before": {"all": [silence], "patch": [seal]}}


class Inheritance:
    """What the server and the command line share of it."""

    def __init__(
        self, isolation: Isolation, tenants: Tenants, sagas: Sagas, *, control_plane: str, development: bool
    ) -> None:
        """`control_plane` is its tenant's id; in `development`, http on this machine will do."""
        self._id = control_plane
        self._plane: Callable[[], Awaitable[Tenant | None]] = partial(tenants.get, control_plane)
        entities = Entities(isolation)
        self.keys = builtin_keys()
        self.own = OwnSettings(entities, self.keys, tenants)
        self.effective = EffectiveSettings(self.keys, self.own, control_plane=self.control_plane)
        Copying(self.own, self.effective, control_plane=self.control_plane).hand_in(sagas)

        self.urls = FlowUrls(entities, control_plane=self.control_plane, development=development)
        self.credentials = Credentials(entities, self.urls, control_plane=self.control_plane)

    async def control_plane(self) -> Tenant | None:
        """The control plane's tenant as it is now."""
        return await self._plane()

    def offer(self, app: Application, catalogue: Catalogue, audit: Audit, providers: ProviderSettings) -> None:
        """Registers the service, and keeps what is in memory true by the catalogue."""
        self._plane = partial(catalogue.get, self._id)
        self.own.on_change(catalogue.refresh)
        app.settings, app.setting_values = self.keys, self.effective
        app.service(CONNECTIONS.paths[0]).add_hooks({"after": {"get": [self.credentials.tell_source]}})
        logs = BothLogs(audit, self.control_plane)
        service = SettingsService(self.keys, self.own, self.effective, providers=providers, logs=logs)
        registration = app.use(PATH, service, methods=METHODS, rules=RULES, hooks=_QUIET)
        service.follow(registration)
