"""The service `settings`: what an app has set, and with `$effective` what holds for it. There is one of them in each app."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Protocol

from hooks.context import Params, Record
from hooks.errors import BadRequest, Forbidden, NotFound
from hooks.permission import effective
from hooks.rules import Rule, permissions_of
from hooks.tenancy import asked
from hooks.tenant import Tenant
from services.base import Service
from services.control.inheritance.effective import EffectiveSettings
from services.control.inheritance.own import ID, Own, OwnSettings, Written
from services.control.logs import BothLogs
from services.control.services.provider_settings import PROVIDERS, ProviderSettings
from services.setting_keys import Key, SettingKeys, nest

PATH: Final = "settings"
CURRENT: Final = "current"
"""The id by which clients may name them; the app's own id does as well."""
RULES: Mapping[str, Rule] = {
    "get": {"permission": "read:tenant_settings"},
    "patch": {"permission": "update:tenant_settings"},
}
METHODS: Final = ("get", "patch")
LONGEST: Final = 200
"""Characters of a value in the audit log."""


class Told(Protocol):
    """Tells an app's clients of an event: the service's registration."""

    async def emit(self, event: str, record: Any, *, tenant: Tenant) -> None: ...


class SettingsService(Service):
    """Settings `{_id, settings_rev, updated_at, branding: {...}, ...}`: what is not there is inherited (RF-1).

    The query's `$effective` answers `{value, source}` for every setting; `settings_rev` has a patch fail with 409 if they are
    not as they were; `$dry_run` only checks a patch.
    """

    def __init__(
        self,
        keys: SettingKeys,
        own: OwnSettings,
        effective: EffectiveSettings,
        *,
        providers: ProviderSettings,
        logs: BothLogs,
    ) -> None:
        self._keys = keys
        self._own = own
        self._effective = effective
        self._providers = providers
        self._logs = logs
        self._told: Told | None = None

    @property
    def schema(self) -> Mapping[str, Any]:
        """What the documents of an app say of it."""
        shown: dict[str, Any] = {
            "_id": {"type": "string", "required": True},
            "settings_rev": {"type": "integer", "description": "One more with each write."},
            "updated_at": {"type": ["string", "null"]},
        }
        return {**shown, **self.data_schema}

    @property
    def data_schema(self) -> Mapping[str, Any]:
        """What a patch may have: each value, or null, which takes it back to inheriting."""
        return {**_described(self._keys), **self._providers.schema}

    def follow(self, told: Told) -> None:
        """Says where events go."""
        self._told = told

    async def get(self, id: Any, params: Params) -> Record:
        """What the app has set, or with `$effective` what holds for it and where that comes from (RF-4).

        Raises:
            NotFound: another id than the app's.
        """
        _check_id(id, params.tenant)
        options = _Options(params)
        options.refuse("$dry_run", "settings_rev")
        own = await self._own.get(params.tenant)
        if not options.effective:
            return self._shown(own, params, params.tenant)
        found = await self._effective.of(params.tenant)
        values = {
            key.name: {"value": found[key.name].value, "source": found[key.name].source}
            for key in self._visible(params)
            if key.name in found
        }
        return {**_head(own), **nest(values), **await self._providers.effective(params.tenant)}

    async def patch(self, id: Any, data: Any, params: Params) -> Record:
        """Merges what is given into what the app has set; null takes a setting, or a whole group, back to inheriting.

        Raises:
            BadRequest: the data has mistakes; `errors` names each. Conflict: somebody was faster.
            Forbidden: a setting needs another permission. NotFound: another id than the app's.
        """
        _check_id(id, params.tenant)
        options = _Options(params)
        options.refuse("$effective")
        if isinstance(data, Mapping) and PROVIDERS in data:
            return await self._patch_providers(data, params, options)
        changes = self._changes(data)
        self._check_writer(changes, params)
        written = await self._own.patch(params.tenant, changes, rev=options.rev, dry_run=options.dry_run)
        if written.changes and not options.dry_run:
            await self._note(self._listed(written), params)
            await self._tell(written.after, params.tenant)
        return self._shown(written.after, params, params.tenant)

    async def _patch_providers(self, data: Mapping[str, Any], params: Params, options: _Options) -> Record:
        if set(data) - {PROVIDERS, "app_id"}:
            raise BadRequest("Providers are changed by themselves: send the other settings in a call of their own")
        own, tenant, changes = await self._providers.patch(
            params.tenant, data[PROVIDERS], rev=options.rev, dry_run=options.dry_run
        )
        if changes and not options.dry_run:
            await self._note(changes, params)
            await self._tell(own, params.tenant)
        return self._shown(own, params, tenant)

    def _changes(self, data: Any) -> Record:
        """The changes by key.

        Raises:
            BadRequest: there is no such setting.
        """
        if not isinstance(data, Mapping):
            raise BadRequest("Settings are changed by an object")
        given = {name: value for name, value in data.items() if name != "app_id"}
        found = dict(_flattened(given, self._keys))
        unknown = [{"path": name, "message": "is no setting"} for name in found if self._keys.get(name) is None]
        if unknown:
            raise BadRequest("The settings have mistakes", errors=unknown)
        return found

    def _check_writer(self, changes: Mapping[str, Any], params: Params) -> None:
        """Settings that need more than the service's permission (a field of the settings may have one of its own)."""
        if params.provider is None:
            return
        held = effective(permissions_of(params.user))
        for key in self._keys:
            if key.name in changes and key.write is not None and key.write not in held:
                raise Forbidden(f"The setting '{key.name}' needs the permission {key.write}")

    def _visible(self, params: Params) -> list[Key]:
        if params.provider is None:
            return [*self._keys]
        held = effective(permissions_of(params.user))
        return [key for key in self._keys if key.read is None or key.read in held]

    def _shown(self, own: Own, params: Params, tenant: Tenant) -> Record:
        values = {key.name: own.values[key.name] for key in self._visible(params) if key.name in own.values}
        return {**_head(own), **nest(values), **self._providers.shown(tenant)}

    def _listed(self, written: Written) -> list[Record]:
        return [
            {"setting": name, "before": self._redacted(name, before), "after": self._redacted(name, after)}
            for name, (before, after) in written.changes.items()
        ]

    async def _note(self, changes: list[Record], params: Params) -> None:
        await self._logs.add(params, "settings-changed", subject=ID, details={"changes": changes})

    def _redacted(self, name: str, value: Any) -> Any:
        key = self._keys.get(name)
        if key is None or key.read is not None:
            return None if value is None else "(not shown)"
        text = value if value is None or isinstance(value, (bool, int, float)) else str(value)
        return text[:LONGEST] if isinstance(text, str) else text

    async def _tell(self, own: Own, tenant: Tenant) -> None:
        """To clients of this app alone, and of settings that anybody with the service's permission may see."""
        if self._told is not None:
            open_to_all = {
                name: value
                for name, value in own.values.items()
                if (key := self._keys.get(name)) is not None and key.read is None
            }
            await self._told.emit("patched", {**_head(own), **nest(open_to_all)}, tenant=tenant)


class _Options:
    """What a query may say. Over REST, everything is a text."""

    def __init__(self, params: Params) -> None:
        self._query = asked(params.query)
        for name in self._query:
            if name not in ("$effective", "$dry_run", "settings_rev", "$select"):
                raise BadRequest(f"Invalid query parameter {str(name)[:64]}")
        self.effective = self._flag("$effective")
        self.dry_run = self._flag("$dry_run")
        self.rev = self._number("settings_rev")

    def refuse(self, *names: str) -> None:
        """Raises BadRequest for what this method does not know."""
        for name in names:
            if name in self._query:
                raise BadRequest(f"Invalid query parameter {name}")

    def _flag(self, name: str) -> bool:
        value = self._query.get(name, False)
        if not isinstance(value, bool) and value not in ("true", "false"):
            raise BadRequest(f"'{name}' is true or false")
        return value is True or value == "true"

    def _number(self, name: str) -> int | None:
        value = self._query.get(name)
        if isinstance(value, str) and value.isdecimal() and len(value) < 16:
            value = int(value)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
            raise BadRequest(f"'{name}' is the number that was read")
        return value


def _check_id(id: Any, tenant: Tenant) -> None:
    if id is not None and id not in (CURRENT, ID, tenant.id):
        raise NotFound(f"No record found for id '{str(id)[:64]}'")


def _head(own: Own) -> Record:
    return {"_id": ID, "settings_rev": own.rev, "updated_at": own.updated_at}


def _flattened(given: Mapping[str, Any], keys: SettingKeys, before: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested data by key; null for a group stands for each of its keys."""
    for part, value in given.items():
        name = f"{before}{part}"
        if keys.get(name) is not None or not keys.is_group(name):
            yield name, value
        elif value is None:
            yield from ((key.name, None) for key in keys.within(name))
        elif isinstance(value, Mapping):
            yield from _flattened(value, keys, f"{name}.")
        else:
            raise BadRequest("The settings have mistakes", errors=[{"path": name, "message": "must be an object"}])


def _described(keys: SettingKeys) -> Record:
    described: Record = {}
    for key in keys:
        *groups, last = key.name.split(".")
        place = described
        for group in groups:
            place = place.setdefault(group, {"type": "object", "properties": {}})["properties"]
        place[last] = {**key.schema, "default": key.default} if key.default is not None else dict(key.schema)
    return described
