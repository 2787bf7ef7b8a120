"""The source: what the control plane has at this moment of all that is synced."""

from __future__ import annotations

from typing import Any

from hooks.context import Record
from hooks.tenant import Tenant
from services.entities.registry import RESOURCE_SERVERS, REVISION, ROLE_PERMISSIONS
from services.isolation import Isolation


class Source:
    """Reads the control plane. A snapshot remembers what it has read; it is for one round, and never older than that."""

    def __init__(self, isolation: Isolation, control_plane: Tenant) -> None:
        self._isolation = isolation
        self._control_plane = control_plane
        self._one: dict[tuple[str, str], Record | None] = {}
        self._triples: dict[str, list[Record]] = {}
        self._servers: dict[str, Record | None] = {}
        self._all: dict[str, list[Record]] = {}

    async def get(self, entity: str, id: str) -> Record | None:
        """One entity; a role is read before its permissions, so that these are never older than its revision."""
        key = (entity, id)
        if key not in self._one:
            self._one[key] = await self.look_again(entity, id)
        return self._one[key]

    async def look_again(self, entity: str, id: str) -> Record | None:
        """One entity as it is now, whatever the snapshot says."""
        found = await self._collection(entity).find({"_id": id}, limit=1)
        return found[0] if found else None

    def put(self, entity: str, id: str, record: Record | None) -> None:
        """Notes what was seen when something was looked at again."""
        self._one[entity, id] = record
        self._triples.pop(id, None)

    async def all(self, entity: str) -> list[Record]:
        """All entities of a type, the oldest first."""
        if entity not in self._all:
            found = await self._collection(entity).find({}, sort=[("_id", 1)])
            self._one.update(((entity, str(record["_id"])), record) for record in found)
            self._all[entity] = found
        return self._all[entity]

    async def triples(self, role_id: str) -> list[Record]:
        """The permissions of a role."""
        if role_id not in self._triples:
            self._triples[role_id] = await self._collection(ROLE_PERMISSIONS.collection).find({"role_id": role_id})
        return self._triples[role_id]

    async def server(self, identifier: str) -> Record | None:
        """The resource server that permissions name."""
        if identifier not in self._servers:
            found = await self._collection(RESOURCE_SERVERS.collection).find({"identifier": identifier}, limit=1)
            self._servers[identifier] = found[0] if found else None
        return self._servers[identifier]

    async def roles_with(self, identifier: str) -> list[str]:
        """The ids of the roles that allow something of a resource server."""
        chosen = {"rs_identifier": identifier}
        found = await self._collection(ROLE_PERMISSIONS.collection).find(chosen, projection={"role_id": 1})
        return [*dict.fromkeys(str(triple["role_id"]) for triple in found)]

    def _collection(self, entity: str) -> Any:
        return self._isolation.collection(self._control_plane, entity)


def revision(source: Record) -> int:
    """The revision of what was read."""
    return int(source.get(REVISION, 0))
