"""Providers among the settings of an app: what service elsewhere it uses, with a secret that is written and never read.

`{providers: {mail: {driver, host, port, tls, user, sender, secret}}}`. In the catalogue stands the name of the secret; its
value is with the tenant's secrets, under a name of its own for each time it is written, so that both change at once.
"""

from __future__ import annotations

import secrets as random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import SecretStr

from hooks.context import HookContext, Record
from hooks.errors import BadRequest, Conflict, FeathersError, NotFound
from hooks.tenant import Tenant
from services.control.configuration import Configuration
from services.control.inheritance.own import Own, OwnSettings
from services.control.providers import ProviderFactory
from services.control.secrets import Secrets
from services.control.tenants import Tenants
from services.drivers import Drivers

PROVIDERS: Final = "providers"
HINT_FROM: Final = 12
"""Characters that a secret must have before its last four may be shown (RF-9)."""
TRIES: Final = 5
_SET_BY_SERVER: Final = ("secret_ref", "secret_hint")


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a provider is to be, and a new secret if one is given."""

    provider: Record | None
    secret: SecretStr | None = None


class ProviderSettings:
    """Shows and changes the providers of whichever tenant is named."""

    def __init__(
        self,
        drivers: Drivers,
        factory: ProviderFactory,
        configuration: Configuration,
        *,
        tenants: Tenants,
        secrets: Secrets,
        own: OwnSettings,
    ) -> None:
        self._drivers = drivers
        self._factory = factory
        self._configuration = configuration
        self._tenants = tenants
        self._secrets = secrets
        self._own = own

    @property
    def schema(self) -> Record:
        """What the documents of an app say of it."""
        kinds = {kind: {"type": ["object", "null"]} for kind in self._drivers.kinds}
        return {PROVIDERS: {"type": "object", "properties": kinds}}

    def shown(self, tenant: Tenant) -> Record:
        """The tenant's own providers, without their secrets."""
        found = {kind: _masked(provider) for kind, provider in tenant.providers.items()}
        return {PROVIDERS: found} if found else {}

    async def effective(self, tenant: Tenant) -> Record:
        """Whose provider is used, by kind. Of another's nothing is told but that it is there."""
        found = {}
        for kind in self._drivers.kinds:
            source = await self._factory.source(kind, tenant)
            value = _masked(tenant.providers[kind]) if source == "own" else {"set": True}
            found[kind] = {"value": value, "source": source}
        return {PROVIDERS: found}

    async def patch(
        self, tenant: Tenant, given: Any, *, rev: int | None, dry_run: bool
    ) -> tuple[Own, Tenant, list[Record]]:
        """Merges what is given into the tenant's own providers; null takes one away. The settings, tenant and changes.

        An omitted secret stays, null clears it (RF-10). A dry run tries whether the providers can be reached (TC-12).

        Raises:
            BadRequest: the data has mistakes, or a dry run fails. Conflict: somebody was faster.
        """
        if not isinstance(given, Mapping) or not given:
            raise BadRequest("The providers are an object by kind")
        for _ in range(TRIES):
            current = await self._tenants.get(tenant.id)
            if current is None:
                raise NotFound(f"There is no app '{tenant.id}'")
            own = await self._own.get(current)
            if rev is not None and own.rev != rev:
                break
            wanted = {str(kind): self._wanted(current, kind, change) for kind, change in given.items()}
            merged = _merged(current, wanted)
            changes = _changes(current, merged, wanted)
            tried = await self._configuration.change(current.id, {PROVIDERS: merged}, dry_run=True)
            if dry_run:
                await self._probe(current, wanted)
                return own, tried.after, changes
            if not changes:
                return own, current, changes
            try:
                written = await self._write(current, own, wanted)
            except Conflict:
                if rev is not None:
                    break
            else:
                return *written, changes
        raise Conflict("The settings have been changed meanwhile: read them again")

    def _wanted(self, tenant: Tenant, kind: Any, change: Any) -> _Wanted:
        if kind not in self._drivers.kinds:
            raise _mistake(str(kind)[:64], "there is no such kind")
        old = tenant.providers.get(kind, {})
        if change is None:
            return _Wanted(None)
        if not isinstance(change, Mapping):
            raise _mistake(kind, "must be an object or null")
        if set_by_server := [name for name in _SET_BY_SERVER if name in change]:
            raise _mistake(f"{kind}.{set_by_server[0]}", "is set by the server")
        provider = {**old, **{name: value for name, value in change.items() if name != "secret"}}
        provider = {name: value for name, value in provider.items() if value is not None}
        secret = change.get("secret")
        if "secret" in change:
            _check_secret(kind, secret, old.get("secret_hint"))
            provider.pop("secret_hint", None)
            provider.pop("secret_ref", None)
        elif "secret_ref" in old and self._is_elsewhere(kind, old, provider):
            raise _mistake(f"{kind}.secret", "must be given again: it would be shown to another server")
        return _Wanted(provider, secret)

    def _is_elsewhere(self, kind: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
        driver = self._drivers.get(kind, new.get("driver"))
        named = {"driver", *(driver.bound if driver is not None else ())}
        return any(old.get(name) != new.get(name) for name in named)

    async def _probe(self, tenant: Tenant, wanted: Mapping[str, _Wanted]) -> None:
        for kind, one in wanted.items():
            if one.provider is not None:
                secret = None if one.secret is None else one.secret.get_secret_value()
                await self._factory.probe(kind, tenant, one.provider, secret)

    async def _write(self, tenant: Tenant, own: Own, wanted: Mapping[str, _Wanted]) -> tuple[Own, Tenant]:
        made: dict[str, str] = {}
        try:
            for kind, one in wanted.items():
                if one.provider is not None and one.secret is not None:
                    value = one.secret.get_secret_value()
                    made[kind] = f"provider.{kind}.{random.token_hex(4)}"
                    await self._secrets.put(tenant.id, made[kind], value)
                    one.provider["secret_ref"] = made[kind]
                    if len(value) >= HINT_FROM:
                        one.provider["secret_hint"] = value[-4:]
            # Keeping a secret is a change of the tenant as well.
            epoch = (await self._known(tenant.id, tenant)).epoch
            counted = await self._own.count(tenant, own)
            changed = await self._configuration.change(tenant.id, {PROVIDERS: _merged(tenant, wanted)}, epoch=epoch)
        except BaseException:
            for name in made.values():
                await self._secrets.forget(tenant.id, name)
            raise
        await self._forget_old(tenant, changed.after)
        await self._own.announce(await self._known(tenant.id, changed.after))
        return counted, changed.after

    async def _known(self, id: str, before: Tenant) -> Tenant:
        """The tenant as it is now, if its providers are as they were.

        Raises:
            Conflict: they are not.
        """
        found = await self._tenants.get(id)
        if found is None or found.providers != before.providers:
            raise Conflict("The settings have been changed meanwhile: read them again")
        return found

    async def _forget_old(self, before: Tenant, after: Tenant) -> None:
        """Secrets that no configuration names any more; those of the one before stay, for servers that have yet to hear."""
        named = {provider.get("secret_ref") for tenant in (before, after) for provider in tenant.providers.values()}
        try:
            for kept in await self._secrets.names(before.id):
                if kept.name.startswith("provider.") and kept.name not in named:
                    await self._secrets.forget(before.id, kept.name)
        except FeathersError:
            # They go with the next change.
            return


def seal(context: HookContext) -> None:
    """A before hook: from here on, no secret shows when the data is printed."""
    data = context.data
    given = data.get(PROVIDERS) if isinstance(data, Mapping) else None
    if isinstance(data, Mapping) and isinstance(given, Mapping):
        sealed = {
            kind: {**change, "secret": SecretStr(change["secret"])}
            if isinstance(change, Mapping) and isinstance(change.get("secret"), str)
            else change
            for kind, change in given.items()
        }
        context.data = {**data, PROVIDERS: sealed}


def _masked(provider: Mapping[str, Any]) -> Record:
    shown = {name: value for name, value in provider.items() if name not in _SET_BY_SERVER}
    if "secret_ref" in provider:
        shown["secret"] = {"set": True, "source": "own"}
        if "secret_hint" in provider:
            shown["secret"]["hint"] = provider["secret_hint"]
    return shown


def _merged(tenant: Tenant, wanted: Mapping[str, _Wanted]) -> Record:
    kept = {kind: dict(provider) for kind, provider in tenant.providers.items() if kind not in wanted}
    return {**kept, **{kind: one.provider for kind, one in wanted.items() if one.provider is not None}}


def _changes(tenant: Tenant, merged: Mapping[str, Any], wanted: Mapping[str, _Wanted]) -> list[Record]:
    """What is different, for the audit log; of a secret, that it is."""
    found: list[Record] = []
    for kind, one in wanted.items():
        old, new = tenant.providers.get(kind, {}), merged.get(kind, {})
        found += [
            {"setting": f"{PROVIDERS}.{kind}.{name}", "before": old.get(name), "after": new.get(name)}
            for name in sorted((old.keys() | new.keys()) - set(_SET_BY_SERVER))
            if old.get(name) != new.get(name)
        ]
        was, is_ = "secret_ref" in old, one.secret is not None or "secret_ref" in new
        if one.secret is not None or was != is_:
            shown = {True: "(not shown)", False: None}
            found.append({"setting": f"{PROVIDERS}.{kind}.secret", "before": shown[was], "after": shown[is_]})
    return found


def _check_secret(kind: str, secret: Any, hint: str | None) -> None:
    """Raises BadRequest for what is no secret, or what is shown in its place."""
    if secret is None:
        return
    value = secret.get_secret_value() if isinstance(secret, SecretStr) else ""
    is_mask = value == hint or not value.strip("*•.").removesuffix(hint or "").strip("*•.")
    if is_mask:
        raise _mistake(f"{kind}.secret", "must be the secret, and not what is shown in its place")


def _mistake(place: str, message: str) -> BadRequest:
    return BadRequest("The settings have mistakes", errors=[{"path": f"{PROVIDERS}.{place}", "message": message}])
