"""EntityService: a MongoService whose records count their writes, and of which the server keeps some fields to itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from hooks.coercion import coerce_query
from hooks.context import HookContext, Params, Record
from hooks.errors import BadRequest, Conflict, MethodNotAllowed
from hooks.schema import Schema, validate_data
from hooks.unique import taken
from services.entities.names import canonical_fields
from services.entities.registry import REVISION, SERVER_FIELDS, Entity
from services.isolation import Isolation
from services.mongo import MongoService, ServiceOptions
from services.query import Paginate
from services.records import present
from services.registration import Hook, HooksByKind

PAGES = Paginate(default=50, max=100)
METADATA: Mapping[str, Any] = {"type": "object", "maxProperties": 50}
_SERVER_SCHEMA: Mapping[str, Any] = {
    REVISION: {"type": "integer", "description": "One more with each write."},
    "created_at": {"type": "string"},
    "updated_at": {"type": "string"},
    "is_system": {"type": "boolean", "description": "Whether it is a copy of what the control plane has."},
}


class EntityService(MongoService):
    """The entities of one kind, of whichever tenant calls, one at a time.

    Clients write what `declared` names and nothing else. Fields in `fixed` are chosen when a record is made.
    """

    def __init__(
        self,
        isolation: Isolation,
        entity: Entity,
        declared: Mapping[str, Any],
        *,
        fixed: Iterable[str] = (),
        readonly: Iterable[str] = (),
        hidden: Iterable[str] = (),
    ) -> None:
        options = ServiceOptions(
            entity.collection,
            paginate=PAGES,
            operators=frozenset({"$startsWith"}),
            readonly=SERVER_FIELDS | frozenset(readonly),
            hidden=frozenset(hidden),
        )
        super().__init__(isolation, options)
        self.entity = entity
        self.shape = Schema({**declared, "additionalProperties": False})
        self.schema: Mapping[str, Any] = {**declared, **_SERVER_SCHEMA}
        self.data_schema: Mapping[str, Any] = {**declared, "additionalProperties": False}
        self._chosen_once = frozenset(fixed)

    async def create(self, data: Any, params: Params) -> Record:
        """A new entity."""
        if isinstance(data, list):
            raise MethodNotAllowed("Can not create multiple entries")
        now = datetime.now(UTC)
        made = {**data, REVISION: 1, "created_at": now, "updated_at": now}
        record = await super().create(made, params)
        assert isinstance(record, dict)
        return record

    async def update(self, id: Any, data: Any, params: Params) -> Record:
        """Replaces what clients may write of an entity."""
        if id is None:
            raise BadRequest("You can not replace multiple instances. Did you mean 'patch'?")
        return await self._write(id, data, params, whole=True)

    async def patch(self, id: Any, data: Any, params: Params) -> Record:
        """Sets the given fields of an entity."""
        if id is None:
            raise MethodNotAllowed("Can not patch multiple entries")
        return await self._write(id, data, params, whole=False)

    async def _write(self, id: Any, data: Any, params: Params, *, whole: bool) -> Record:
        changes = {name: value for name, value in self._without_id(data, params.tenant.id).items() if name != REVISION}
        collection = self._collection(params)
        chosen = self._identified(self._parse(params).filter, id)
        update: dict[str, Any] = {"$set": {**changes, "updated_at": datetime.now(UTC)}, "$inc": {REVISION: 1}}
        if whole or not self._chosen_once.isdisjoint(changes):
            found = await collection.find(chosen, limit=1)
            old = present(found[0] if found else None, id)
            for field in self._chosen_once.intersection(changes):
                if changes[field] != old.get(field):
                    raise BadRequest(f"The {field} of a {self.entity.name} cannot be changed")
            stays = {*changes, *self._chosen_once, *self.readonly, *SERVER_FIELDS, *self.options.hidden}
            if whole and (gone := {field: "" for field in old if field not in stays}):
                update["$unset"] = gone
        return present(await collection.find_one_and_update(chosen, update), id)


def entity_hooks(
    service: EntityService,
    *,
    canonical: Iterable[str] = (),
    prepare: Iterable[Hook] = (),
    unique: str | None = None,
    **by_method: Iterable[Hook],
) -> HooksByKind:
    """The hooks of an entity service: names are settled, data is prepared and validated, then come those by method.

    `prepare` fills in what clients need not say; `unique` is what the caller calls the value that no two entities share.
    """
    checks: list[Hook] = [canonical_fields(*canonical), *prepare, validate_data(service.shape)]
    before: dict[str, list[Hook]] = {"all": [coerce_query(service.shape)]}
    before |= {name: [*checks, *by_method.get(name, ())] for name in ("create", "update", "patch")}
    before |= {name: [*hooks] for name, hooks in by_method.items() if name not in before}
    offered = {name: hooks for name, hooks in before.items() if name == "all" or callable(getattr(service, name, None))}
    hooks: HooksByKind = {"before": offered}
    if unique is not None:
        hooks["error"] = {name: [_name_taken(unique)] for name in ("create", "update", "patch")}
    return hooks


def _name_taken(name: str) -> Hook:
    """An error hook: what the database's unique index says, in a sentence. Conflicts of our own have a reason, and stay."""

    def reword(context: HookContext) -> None:
        if isinstance(context.error, Conflict) and context.error.data is None:
            context.error = taken(name)

    return reword
