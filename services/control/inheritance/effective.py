"""Effective settings: an app's own value, else the control plane's if it may be inherited, else the built-in one (RF-1)."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import structlog

from hooks.tenant import Tenant
from services.cache import Cache
from services.control.inheritance.own import OwnSettings
from services.control.inheritance.selection import Selection, selection_of
from services.setting_keys import Key, PublicTenant, SettingKeys

log = structlog.get_logger()

SECONDS = 30.0
"""For which values are kept, should a server die between writing a change and counting it."""

Source = Literal["own", "control_plane", "default"]


@dataclass(frozen=True, slots=True)
class Effective:
    """A value, and where it comes from."""

    value: Any
    source: Source


class EffectiveSettings:
    """The values that hold for whichever tenant is named; kept in memory until its settings or the control plane's change.

    There is no secret among them: those are with the factories of clients.
    """

    def __init__(
        self,
        keys: SettingKeys,
        own: OwnSettings,
        *,
        control_plane: Callable[[], Awaitable[Tenant | None]],
        cache: Cache | None = None,
    ) -> None:
        """`control_plane` tells its tenant as it is now."""
        self._keys = keys
        self._own = own
        self._control_plane = control_plane
        self._cache = Cache() if cache is None else cache
        self.defaults: Mapping[str, Any] = {}
        """What is inherited where no configuration says so, as `Selection`: who composes the server sets it."""

    async def of(self, tenant: Tenant) -> Mapping[str, Effective]:
        """All settings by key. The caller gets values of his own, and may do with them what he likes."""
        plane = await self._control_plane()
        revisions = f"{tenant.settings_rev}:{0 if plane is None else plane.settings_rev}"
        found = await self._cache.of(tenant).fetch(
            "settings", revisions, lambda: self._evaluate(tenant, plane), seconds=SECONDS, weigh=_weight
        )
        return {key: Effective(copy.deepcopy(one.value), one.source) for key, one in found.items()}

    async def value(self, tenant: Tenant, key: str) -> Any:
        """The value of one setting.

        Raises:
            LookupError: there is no such setting.
        """
        return (await self.of(tenant))[key].value

    async def inherited(self, tenant: Tenant) -> dict[str, Any]:
        """What the tenant would get of the control plane's own values if it had none itself, transformed."""
        plane = await self._control_plane()
        if plane is None or plane.id == tenant.id:
            return {}
        selection = self.selection(tenant, plane)
        return await self._select(tenant, plane, selection)

    def selection(self, tenant: Tenant, plane: Tenant) -> Selection:
        """Which settings an app gets from the control plane."""
        return selection_of(tenant, plane, self.defaults)

    async def _evaluate(self, tenant: Tenant, plane: Tenant | None) -> Mapping[str, Effective]:
        own = (await self._own.get(tenant)).values
        inherited: Mapping[str, Any] = {}
        if plane is not None and plane.id != tenant.id:
            selection = self.selection(tenant, plane)
            if selection.mode == "fallback":
                inherited = await self._select(tenant, plane, selection)
        return {key.name: _effective(key, own, inherited) for key in self._keys}

    async def _select(self, tenant: Tenant, plane: Tenant, selection: Selection) -> dict[str, Any]:
        """Select, then transform. A key whose transform fails is left out: its raw value is for nobody (RF-3)."""
        chosen = [key for key in self._keys if selection.selects(key)]
        if not chosen:
            return {}
        given = await self._cache.of(plane).fetch(
            "own-settings", str(plane.settings_rev), lambda: self._own.get(plane), seconds=SECONDS
        )
        public = PublicTenant(tenant.id, tenant.name, tenant.plan, tenant.region)
        found = {}
        for key in chosen:
            if key.name not in given.values:
                continue
            try:
                found[key.name] = self._transformed(key, given.values[key.name], selection, public)
            except Exception as error:
                # Neither the value nor what the function says of it is for the log.
                log.error(  # noqa: TRY400
                    "a setting could not be transformed", tenant=tenant.id, setting=key.name, error=type(error).__name__
                )
        return found

    def _transformed(self, key: Key, value: Any, selection: Selection, tenant: PublicTenant) -> Any:
        name = selection.transform_of(key.name)
        if name is None:
            return value
        function = self._keys.transform_of(name)
        if function is None:
            raise LookupError(name)
        changed = function(key.name, copy.deepcopy(value), tenant)
        if inspect.iscoroutine(changed):
            changed.close()
            raise TypeError("a transform is a plain function")
        if key.fault(changed):
            raise ValueError("a transform gives what the setting takes")
        return changed


def _weight(found: Mapping[str, Effective]) -> int:
    """What values weigh, about. Each change of the settings leaves those before it behind, until there is no room for them."""
    return sum(len(json.dumps(one.value, default=str)) for one in found.values())


def _effective(key: Key, own: Mapping[str, Any], inherited: Mapping[str, Any]) -> Effective:
    if key.name in own:
        return Effective(own[key.name], "own")
    if key.name in inherited:
        return Effective(inherited[key.name], "control_plane")
    return Effective(key.default, "default")
