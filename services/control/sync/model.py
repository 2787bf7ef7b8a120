"""What is synced, in which order, and which fields of it travel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from hooks.context import Record
from hooks.tenant import Tenant
from services.entities.registry import CONNECTIONS, RESOURCE_SERVERS, ROLE_PERMISSIONS, ROLES, Entity
from services.entities.strategies import STRATEGIES

ORDER: Final = (RESOURCE_SERVERS, ROLES, ROLE_PERMISSIONS, CONNECTIONS)
"""Permissions need their role and their resource server (SY-7)."""
TYPES: Final[Mapping[str, Entity]] = {entity.collection: entity for entity in ORDER}
NAMES: Final[Mapping[str, str]] = {"resource_servers": "identifier", "roles": "name", "connections": "name"}
"""The field whose value no two entities of a tenant share."""
ALL: Final = ""
"""Stands for every tenant, and for every entity of a type."""

OnDisable = Literal["keep_protected", "release", "remove"]
Predicate = Callable[[str, Record], bool]
"""Whether an entity of a type is for other tenants at all."""

_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "resource_servers": (
        "identifier",
        "name",
        "scopes",
        "signing_alg",
        "token_lifetime",
        "token_lifetime_for_web",
        "options",
        "allow_offline_access",
    ),
    "roles": ("name", "description"),
    "connections": ("name", "display_name", "strategy", "show_as_button", "is_domain_connection"),
}
_KEPT_HOME: Final = ("secrets", "shareable", "share_with", "enabled")
"""What a connection has that was an app's own before it was adopted: a copy has none of it."""
COPIED: Final = frozenset(
    {*(field for fields in _FIELDS.values() for field in fields), "options", "metadata", *_KEPT_HOME}
)
"""Fields of which a copy has what travels, and nothing else."""


@dataclass(frozen=True, slots=True)
class Switches:
    """Which types are synced, and what becomes of the copies of one that is not any more (SY-1, SY-14)."""

    resource_servers: bool = True
    roles: bool = True
    role_permissions: bool | None = None
    """None follows the roles."""
    connections: bool = True
    on_disable: OnDisable = "keep_protected"
    should_sync: Predicate = lambda entity, record: True

    def has(self, entity: str) -> bool:
        """Whether a type is synced."""
        if entity == "role_permissions":
            return self.roles and self.role_permissions is not False
        return bool(getattr(self, entity))


@dataclass(frozen=True, slots=True)
class Change:
    """Word that one entity of the control plane has changed; or, with a `target`, that one tenant is to be looked at."""

    entity: str
    source_id: str
    target: str = ALL


def qualifies(switches: Switches, tenant: Tenant, entity: str, source: Record) -> bool:
    """Whether a tenant is to have a copy: the entity, the server and the tenant have to agree (SY-8)."""
    metadata = source.get("metadata")
    if isinstance(metadata, Mapping) and metadata.get("sync") is False:
        return False
    if not tenant.sync_exclude:
        return bool(switches.should_sync(entity, source))
    excluded = {entity, source.get(NAMES[entity]), str(source["_id"])}
    return excluded.isdisjoint(tenant.sync_exclude) and bool(switches.should_sync(entity, source))


def copied(entity: str, source: Record) -> Record:
    """What travels of an entity (SY-6): nothing that is not listed, so that no secret can."""
    copy = {field: source[field] for field in _FIELDS[entity] if source.get(field) is not None}
    metadata = source.get("metadata")
    if isinstance(metadata, Mapping) and isinstance(metadata.get("public"), Mapping):
        copy["metadata"] = {"public": metadata["public"]}
    if entity == "connections":
        open_options = STRATEGIES[source["strategy"]].open
        options: Mapping[str, Any] = source.get("options", {})
        copy["options"] = {name: options[name] for name in options if name in open_options}
    return copy
