"""Own settings: what an app itself has set, one document for each app, written only over what the writer has seen."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from hooks.context import Record
from hooks.errors import BadRequest, Conflict, Unavailable
from hooks.tenant import Tenant
from services.entities.records import Entities
from services.entities.registry import REVISION, SETTINGS
from services.setting_keys import SettingKeys, nest

ID = "settings"
LARGEST = 64 * 1024
"""Bytes of all values of an app together."""
TRIES = 5
"""For changes that do not say over what they are written."""


class Counter(Protocol):
    """Counts changes of settings in the catalogue, which running servers hear of: `services.control.tenants.Tenants`."""

    async def count_settings(self, id: str) -> Tenant:
        """The tenant as it is then."""
        ...


@dataclass(frozen=True, slots=True)
class Own:
    """What an app has set."""

    values: Mapping[str, Any] = field(default_factory=dict)
    """By key. What is not there is inherited."""
    rev: int = 0
    """Counts the writes; 0 is before the first one."""
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """What a change was, by key; None stands for what is not set."""

    before: Own
    after: Own
    changes: Mapping[str, tuple[Any, Any]]


class OwnSettings:
    """Reads and writes them, of whichever tenant is named."""

    def __init__(self, entities: Entities, keys: SettingKeys, counter: Counter) -> None:
        self._entities = entities
        self._keys = keys
        self._counter = counter
        self._followers: list[Callable[[Tenant], Awaitable[None]]] = []

    def on_change(self, follower: Callable[[Tenant], Awaitable[None]]) -> None:
        """Calls `follower` with a tenant whose settings were changed here, before the writer is answered."""
        self._followers.append(follower)

    async def get(self, tenant: Tenant) -> Own:
        """What the tenant has set."""
        found = await self._entities.get(tenant, SETTINGS, ID)
        if found is None:
            return Own()
        return Own(self._keys.flat(found.get("values", {})), found[REVISION], found["updated_at"])

    async def patch(
        self, tenant: Tenant, changes: Mapping[str, Any], *, rev: int | None = None, dry_run: bool = False
    ) -> Written:
        """Merges changes by key into what is set; None takes a key back to inheriting. `dry_run` writes nothing.

        With `rev`, only if the settings were written so often.

        Raises:
            Conflict: they are not as they were. BadRequest: what would be set does not fit; `errors` names each fault.
        """
        for _ in range(TRIES):
            before = await self.get(tenant)
            if rev is not None and before.rev != rev:
                raise _overtaken()
            values = self._merged(before.values, changes)
            different = {
                key: (before.values.get(key), values.get(key))
                for key in sorted(before.values.keys() | values.keys())
                if (key in before.values, before.values.get(key)) != (key in values, values.get(key))
            }
            if dry_run or not different:
                return Written(before, Own(values, before.rev, before.updated_at), different)
            after = await self._write(tenant, before, values)
            if after is not None:
                await self.tell(tenant)
                return Written(before, after, different)
            if rev is not None:
                break
        raise _overtaken()

    async def begin(self, tenant: Tenant, values: Mapping[str, Any]) -> None:
        """Gives a tenant its first values, unless it has some."""
        if await self._write(tenant, Own(), values) is not None:
            await self.tell(tenant)

    async def count(self, tenant: Tenant, before: Own) -> Own:
        """Counts a write that changes none of the values.

        Raises:
            Conflict: somebody was faster.
        """
        after = await self._write(tenant, before, before.values)
        if after is None:
            raise _overtaken()
        return after

    async def tell(self, tenant: Tenant) -> None:
        """Has every server look at the tenant's settings again, this one before it returns."""
        await self.announce(await self._counter.count_settings(tenant.id))

    async def announce(self, tenant: Tenant) -> None:
        """Has this server look at a tenant again that was changed, before it returns."""
        for follower in self._followers:
            try:
                await follower(tenant)
            except Unavailable:
                # It is kept; servers that cannot look at it now look later.
                continue

    def _merged(self, before: Mapping[str, Any], changes: Mapping[str, Any]) -> Record:
        values, faults = {**before}, []
        for name, change in changes.items():
            key = self._keys.get(name)
            assert key is not None
            if change is None:
                values.pop(name, None)
                continue
            value = _merge(values.get(name, {}), change) if key.is_object and isinstance(change, Mapping) else change
            if fault := key.fault(value):
                faults.append({"path": name, "message": fault})
            values[name] = value
        if faults:
            raise BadRequest("The settings have mistakes", errors=faults)
        if len(json.dumps(values, default=str).encode()) > LARGEST:
            raise BadRequest(f"The settings of an app have at most {LARGEST} bytes")
        return values

    async def _write(self, tenant: Tenant, before: Own, values: Mapping[str, Any]) -> Own | None:
        """None when somebody was faster."""
        try:
            if before.rev == 0:
                made = await self._entities.add(tenant, SETTINGS, {"_id": ID, "values": nest(values)})
            else:
                chosen = {"_id": ID, REVISION: before.rev}
                changed = await self._entities.change(tenant, SETTINGS, chosen, {"$set": {"values": nest(values)}})
                if changed is None:
                    return None
                made = changed
        except Conflict:
            return None
        return Own(values, made[REVISION], made["updated_at"])


def _merge(old: Any, change: Mapping[str, Any]) -> Record:
    """An object with another one merged into it, at any depth; null takes a field out."""
    merged = {**old} if isinstance(old, Mapping) else {}
    for name, value in change.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge(merged.get(name), value) if isinstance(value, Mapping) else value
    return merged


def _overtaken() -> Conflict:
    return Conflict("The settings have been changed meanwhile: read them again")
