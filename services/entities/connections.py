"""The connections service: by which providers people may sign in; and overrides, with which an app decorates a connection.

What a connection keeps secret is written and never read: it goes to the tenant's secrets, and leaves a mark that it is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

from bson import ObjectId
from pydantic import SecretStr

from hooks.context import HookContext, Params, Record
from hooks.errors import BadRequest, Conflict
from hooks.rules import Rule
from services.declaration.oauth import check_provider_name
from services.entities.options import required
from services.entities.records import Entities
from services.entities.registry import CONNECTION_OVERRIDES, CONNECTIONS
from services.entities.service import METADATA, EntityService, entity_hooks
from services.entities.strategies import STRATEGIES, check_options, check_secret_names
from services.isolation import Isolation, ScopedCollection
from services.query import Query
from services.registration import HooksByKind

SECRETS: Final = "secrets"
HINT_FROM: Final = 12
"""Characters that a secret must have before its last four may be shown (RF-9)."""
LARGEST: Final = 4096
RULES: Mapping[str, Rule] = {
    verb: {"permission": f"{word}:connections"}
    for verb, word in {
        "find": "read",
        "get": "read",
        "create": "create",
        "update": "update",
        "patch": "update",
        "remove": "delete",
    }.items()
}
_TITLE: Mapping[str, Any] = {"type": "string", "minLength": 1, "maxLength": 120}
_IDS: Mapping[str, Any] = {
    "type": "array",
    "maxItems": 500,
    "uniqueItems": True,
    "items": {"type": "string", "minLength": 1, "maxLength": 256},
}
DECLARED: Mapping[str, Any] = {
    "name": {"type": "string", "required": True},
    "display_name": _TITLE,
    "strategy": {"enum": sorted(STRATEGIES), "required": True, "description": "It never changes."},
    "options": {"type": "object", "maxProperties": 50},
    SECRETS: {
        "type": "object",
        "maxProperties": 10,
        "additionalProperties": {"type": ["string", "null"], "minLength": 1, "maxLength": LARGEST},
        "description": "Written as `{name: text}`, null clears; read as `{name: {set: true, source: own, hint?}}`.",
    },
    "enabled": {"type": "boolean"},
    "show_as_button": {"type": "boolean"},
    "is_domain_connection": {"type": "boolean"},
    "shareable": {"type": "boolean", "description": "Whether other apps may sign people in by these credentials."},
    "share_with": {**_IDS, "description": "The appIds that may; without it, all."},
    "metadata": METADATA,
}
_SHOWN: Mapping[str, Any] = {
    **DECLARED,
    SECRETS: {
        "type": "object",
        "additionalProperties": {
            "type": "object",
            "properties": {"set": {"type": "boolean"}, "hint": {"type": "string"}, "source": {"type": "string"}},
        },
    },
}
DECLARED_OVERRIDE: Mapping[str, Any] = {
    "connection_id": {"type": "string", "required": True, "maxLength": 256},
    "display_name": _TITLE,
    "enabled": {"type": "boolean"},
    "show_as_button": {"type": "boolean"},
    "scopes": {"type": "array", "maxItems": 50, "uniqueItems": True, "items": {"type": "string", "maxLength": 255}},
    "clients": {**_IDS, "description": "The ids of the clients that offer it; without it, all."},
}


class Vault(Protocol):
    """Where values are kept that nobody reads but the factories of clients: `services.control.secrets.Secrets`."""

    async def put(self, app_id: str, name: str, value: str) -> int:
        """Keeps a value as the newest one of its name."""
        ...

    async def forget(self, app_id: str, name: str | None = None) -> bool:
        """Deletes all versions of a name."""
        ...


class ConnectionsService(EntityService):
    """Connections `{_id, name, display_name, strategy, options, secrets, enabled, shareable, ...}`."""

    def __init__(self, isolation: Isolation, entities: Entities, vault: Vault) -> None:
        super().__init__(isolation, CONNECTIONS, DECLARED, fixed=("strategy",))
        self.schema = {**self.schema, **_SHOWN}
        self._entities = entities
        self._vault = vault

    def hooks(self) -> HooksByKind:
        """The service's hooks."""
        return entity_hooks(
            self,
            canonical=("name",),
            unique="name",
            create=[_check_name, _seal],
            update=[_check_name, _seal],
            patch=[_check_name, _seal],
        )

    async def create(self, data: Any, params: Params) -> Record:
        """A new connection.

        Raises:
            BadRequest: its strategy has no such options or secrets.
        """
        id = ObjectId() if data.get("_id") is None else data["_id"]
        given = data.get(SECRETS, {})
        _check(data["strategy"], data.get("options", {}), given)
        marks = await self._keep(params.tenant.id, id, given)
        try:
            return await super().create({**data, "_id": id, SECRETS: marks}, params)
        except BaseException:
            await self._forget(params.tenant.id, id, marks)
            raise

    async def remove(self, id: Any, params: Params) -> Record:
        """Removes a connection with its secrets, and with how the app has decorated it."""
        tenant = params.tenant

        async def erase() -> Record:
            removed: Any = await super(ConnectionsService, self).remove(id, params)
            chosen = {"connection_id": str(removed["_id"])}
            await self._entities.of(tenant, CONNECTION_OVERRIDES).delete_many(chosen)
            return dict(removed)

        removed = await self._entities.transaction(tenant, erase)
        await self._forget(tenant.id, removed["_id"], removed.get(SECRETS, {}))
        return removed

    async def _write(self, id: Any, data: Any, params: Params, *, whole: bool) -> Record:
        """Secrets that are not named stay (RF-10), also where all else is replaced."""
        collection = self._collection(params)
        old = await self._get(collection, id, Query(self._parse(params).filter))
        # Before a secret is kept: a copy's are none of the app's.
        await collection.check_writable({"_id": old["_id"]})
        given = data.get(SECRETS, {})
        strategy = old["strategy"]
        _check(strategy, data.get("options", {}), given)
        known = old.get(SECRETS, {})
        if "options" in data or whole:
            _check_destination(strategy, old.get("options", {}), data.get("options", {}), known.keys() - given.keys())
        for name, value in given.items():
            if value is not None and _is_mask(value.get_secret_value(), known.get(name, {}).get("hint")):
                raise BadRequest(f"secrets: '{name}' is what is shown in its place, and no secret")
        await self._check_before_secrets(collection, old, data)
        # Before the rest: a new destination never meets an old secret.
        marks = {**known, **await self._keep(params.tenant.id, old["_id"], given)}
        cleared = {name for name, value in given.items() if value is None}
        kept = {name: mark for name, mark in marks.items() if name not in cleared}
        changed = await super()._write(id, {**data, SECRETS: kept}, params, whole=whole)
        await self._forget(params.tenant.id, old["_id"], cleared & known.keys())
        return changed

    async def _check_before_secrets(self, collection: ScopedCollection, old: Record, data: Any) -> None:
        """Refuses what the write itself would refuse, as long as no secret has been replaced.

        Raises:
            BadRequest: another strategy. Conflict: the name is taken.
        """
        if data.get("strategy", old["strategy"]) != old["strategy"]:
            raise BadRequest("The strategy of a connection cannot be changed")
        others = {"name": data.get("name"), "_id": {"$ne": old["_id"]}}
        if "name" in data and await collection.count(others):
            raise Conflict()

    async def _keep(self, app_id: str, id: Any, given: Mapping[str, SecretStr | None]) -> Record:
        """Puts secrets where they belong; what may be told of them."""
        marks: Record = {}
        for name, secret in given.items():
            if secret is not None:
                value = secret.get_secret_value()
                await self._vault.put(app_id, secret_name(id, name), value)
                marks[name] = {"set": True, "source": "own"}
                if len(value) >= HINT_FROM:
                    marks[name]["hint"] = value[-4:]
        return marks

    async def _forget(self, app_id: str, id: Any, names: Any) -> None:
        for name in names:
            await self._vault.forget(app_id, secret_name(id, name))


class ConnectionOverridesService(EntityService):
    """Overrides `{_id, connection_id, display_name, enabled, show_as_button, scopes, clients}`: at most one a connection.

    They are the app's own also where the connection is a copy, which nobody but the control plane changes.
    """

    def __init__(self, isolation: Isolation, entities: Entities) -> None:
        super().__init__(isolation, CONNECTION_OVERRIDES, DECLARED_OVERRIDE, fixed=("connection_id",))
        self._entities = entities

    def hooks(self) -> HooksByKind:
        """The service's hooks."""
        checks = [self._check]
        return entity_hooks(self, unique="override", create=checks, update=checks, patch=checks)

    async def _check(self, context: HookContext) -> None:
        """Before writing: the connection is there, and further scopes are allowed if any are asked for."""
        data: Any = context.data
        id = data.get("connection_id")
        if id is None:
            found = await self._entities.get(context.tenant, CONNECTION_OVERRIDES, context.id)
            id = None if found is None else found["connection_id"]
        if id is None:
            return
        connection = await required(self._entities, context.tenant, CONNECTIONS, id)
        if data.get("scopes") and not connection.get("options", {}).get("extra_scopes"):
            raise BadRequest("This connection allows no further scopes")


def secret_name(connection_id: Any, name: str) -> str:
    """How a connection's secret is called among those of its tenant."""
    return f"connection.{connection_id}.{name}"


def _check_name(context: HookContext) -> None:
    try:
        check_provider_name(context.data.get("name"))
    except ValueError as error:
        raise BadRequest(f"The name {error}") from error


def _seal(context: HookContext) -> None:
    """Before writing, the last hook: from here on, no secret shows when the data is printed."""
    data: Any = context.data
    given = data.get(SECRETS)
    if given is not None:
        sealed = {name: None if value is None else SecretStr(value) for name, value in given.items()}
        context.data = {**data, SECRETS: sealed}


def _check(strategy: str, options: Mapping[str, Any], secrets: Mapping[str, Any]) -> None:
    check_options(strategy, options)
    check_secret_names(strategy, secrets)


def _check_destination(strategy: str, old: Mapping[str, Any], new: Mapping[str, Any], kept: Any) -> None:
    """Secrets that stay go where they went before: who names another address has to know them.

    Raises:
        BadRequest: one would be shown to another server.
    """
    moved = any(old.get(name) != new[name] for name in STRATEGIES[strategy].addresses if name in new)
    if moved and kept:
        raise BadRequest(f"secrets: '{min(kept)}' must be given again: it would be shown to another server")


def _is_mask(value: str, hint: str | None) -> bool:
    """Whether a value is what a form shows in place of the secret: its hint, or dots before it."""
    return value == hint or not value.strip("*•.").removesuffix(hint or "").strip("*•.")
