"""The step of a new app's creation in which it gets the control plane's settings as its own, if that is configured (RF-5)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from hooks.tenant import Tenant
from services.control.inheritance.effective import EffectiveSettings
from services.control.inheritance.own import OwnSettings
from services.control.sagas import PROVISION, Sagas, Step, Work


class Copying:
    """Ensures that a new app has what it is to start with."""

    def __init__(
        self,
        own: OwnSettings,
        effective: EffectiveSettings,
        *,
        control_plane: Callable[[], Awaitable[Tenant | None]],
    ) -> None:
        self._own = own
        self._effective = effective
        self._control_plane = control_plane

    def hand_in(self, sagas: Sagas) -> None:
        """Adds the step to those of others."""
        sagas.add(PROVISION, Step("settings", self._copy))

    async def _copy(self, work: Work) -> None:
        tenant, plane = work.tenant, await self._control_plane()
        if plane is None or self._effective.selection(tenant, plane).mode != "copy":
            return
        values = await self._effective.inherited(tenant)
        if values:
            await self._own.begin(tenant, values)
