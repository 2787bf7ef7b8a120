"""The registry of entities: every collection in which tenants keep them, and what holds for it.

From here come what is brought about in the database, what is purged with a tenant, exported, probed by the tests, synced
and protected. A collection that is not listed here is no entity's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from services.database.schema import CollectionSchema, Expiry, Index
from services.protection import COLLECTIONS as WITH_COPIES
from services.protection import SYNC_FIELDS

REVISION: Final = "rev"
"""Field of every entity: 1 when it is made, and one more with each write."""
SERVER_FIELDS: Final = SYNC_FIELDS | {"_id", REVISION, "created_at", "updated_at"}
"""Fields that no client may write."""
GLOBAL: Final = ""
"""Stands in `user_roles.org_id` for a role that is not given in an organization."""


@dataclass(frozen=True, slots=True)
class Entity:
    """One kind of entity."""

    schema: CollectionSchema
    name: str
    """What a person calls it."""
    paths: tuple[str, ...]
    """Where services offer it; the first is its own."""
    synced: bool = False
    """Whether what the control plane has of it is copied into the other tenants."""
    protected: bool = False
    """Whether a copy may be written by the sync alone."""

    @property
    def collection(self) -> str:
        """The collection's name."""
        return self.schema.name


def _entity(
    collection: str,
    name: str,
    *paths: str,
    unique: tuple[tuple[str, ...], ...] = (),
    indexes: tuple[tuple[str, ...], ...] = (),
    expires: str | None = None,
    synced: bool = False,
) -> Entity:
    """An entity by the fields of its indexes, before which the tenant stands. What is synced has a source."""
    if synced:
        unique, indexes = (*unique, ("source_id",)), (*indexes, ("is_system",))
    made: list[Index | Expiry] = [Index(_keys(fields), unique=True) for fields in unique]
    made += [Index(_keys(fields)) for fields in indexes]
    if expires is not None:
        made.append(Expiry(expires))
    return Entity(CollectionSchema(collection, tuple(made)), name, paths, synced, collection in WITH_COPIES)


def _keys(fields: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    return (("app_id", 1), *((field, 1) for field in fields))


ORGANIZATIONS: Final = _entity(
    "organizations", "organization", "organizations", unique=(("name",), ("tenant_id",)), indexes=(("created_at",),)
)
MEMBERS: Final = _entity(
    "members",
    "member",
    "members",
    "organizations/:org/members",
    unique=(("org_id", "user_id"),),
    indexes=(("user_id",), ("roles",)),
)
INVITATIONS: Final = _entity("invitations", "invitation", "invitations", indexes=(("org_id",),), expires="expires_at")
ROLES: Final = _entity("roles", "role", "roles", unique=(("name",),), synced=True)
ROLE_PERMISSIONS: Final = _entity(
    "role_permissions",
    "permission",
    "roles/:role/permissions",
    unique=(("role_id", "rs_identifier", "permission"),),
    synced=True,
)
USER_ROLES: Final = _entity(
    "user_roles", "role of a user", "user-roles", unique=(("user_id", "org_id", "role_id"),), indexes=(("role_id",),)
)
RESOURCE_SERVERS: Final = _entity(
    "resource_servers", "resource server", "resource-servers", unique=(("identifier",),), synced=True
)
CONNECTIONS: Final = _entity(
    "connections", "connection", "connections", unique=(("name",),), indexes=(("strategy",),), synced=True
)
CONNECTION_OVERRIDES: Final = _entity(
    "connection_overrides", "connection", "connection-overrides", unique=(("connection_id",),)
)
CLIENTS: Final = _entity("clients", "client", "clients", unique=(("name",),))
SETTINGS: Final = _entity("settings", "settings", "settings")

ENTITIES: Final = (
    ORGANIZATIONS,
    MEMBERS,
    INVITATIONS,
    ROLES,
    ROLE_PERMISSIONS,
    USER_ROLES,
    RESOURCE_SERVERS,
    CONNECTIONS,
    CONNECTION_OVERRIDES,
    CLIENTS,
    SETTINGS,
)
BY_COLLECTION: Final[Mapping[str, Entity]] = {entity.collection: entity for entity in ENTITIES}
COLLECTIONS: Final = tuple(entity.schema for entity in ENTITIES)
PROTECTED: Final = frozenset(entity.collection for entity in ENTITIES if entity.protected)
"""Collections in which a document with `is_system` is the sync's alone."""
